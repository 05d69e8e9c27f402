package jsonpatch

import "slices"

// Weigh estimates the memory of a decoded JSON tree in bytes: a list of empty objects takes thirty times its text.
func Weigh(v any) int64 {
	switch typed := v.(type) {
	case map[string]any:
		weight := mapWeight(len(typed))
		for key, value := range typed {
			weight += stringWeight(len(key)) + Weigh(value)
		}
		return weight
	case []any:
		weight := listWeight(len(typed))
		for _, item := range typed {
			weight += Weigh(item)
		}
		return weight
	case string:
		return stringWeight(len(typed))
	case nil, bool:
		return 0
	}
	return numberWeight
}

// WeighText is Weigh of what the JSON text would become, without decoding it, so that it takes next to no memory. The weight
// of a text that is no JSON means nothing.
func WeighText(text []byte) int64 {
	var s scale
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case ' ', '\t', '\r', '\n':
		case '{', '[':
			s.value(0)
			s.open = append(s.open, block{object: c == '{'})
		case '}', ']':
			s.close()
		case ',', ':':
		case '"':
			end := stringEnd(text, i+1)
			s.value(stringWeight(end - i - 1))
			i = end
		default:
			end := i + 1
			for end < len(text) && !slices.Contains([]byte(" \t\r\n,:]}"), text[end]) {
				end++
			}
			if c == '-' || '0' <= c && c <= '9' {
				s.value(numberWeight)
			} else {
				s.value(0) // true, false, null
			}
			i = end - 1
		}
	}
	return s.weight
}

// scale adds up the weight of a text while it is read.
type scale struct {
	weight int64
	open   []block
}

// block is an object or a list of which the end has not come. values counts an object's keys too.
type block struct {
	object bool
	values int
}

func (s *scale) value(weight int64) {
	s.weight += weight
	if len(s.open) > 0 {
		s.open[len(s.open)-1].values++
	}
}

func (s *scale) close() {
	if len(s.open) == 0 {
		return
	}
	ended := s.open[len(s.open)-1]
	s.open = s.open[:len(s.open)-1]
	if ended.object {
		s.weight += mapWeight(ended.values / 2)
	} else {
		s.weight += listWeight(ended.values)
	}
}

// stringEnd is the index of the quote that ends the string which begins at from.
func stringEnd(text []byte, from int) int {
	for i := from; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return len(text)
}

// These are the bytes that values take on the heap of a 64-bit machine, beside the slot in their parent.
const (
	numberWeight = 32 // a string in an interface
	// A map has a header, up to eight entries in one group, and beyond that groups that are about half full.
	mapHeader, mapGroup, mapEntry = 48, 288, 75
	listHeader, listEntry         = 24, 24
)

func mapWeight(entries int) int64 {
	switch {
	case entries == 0:
		return mapHeader
	case entries <= 8:
		return mapHeader + mapGroup
	}
	return mapHeader + int64(entries)*mapEntry
}

func listWeight(items int) int64 { return listHeader + int64(items)*listEntry }

func stringWeight(bytes int) int64 { return 16 + int64(bytes+15)/16*16 }
