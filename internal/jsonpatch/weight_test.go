package jsonpatch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func decode(t testing.TB, text string) any {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func list(item string, count int) string {
	return "[" + strings.TrimSuffix(strings.Repeat(item+",", count), ",") + "]"
}

func TestATextWeighsWhatItBecomes(t *testing.T) {
	for _, text := range []string{
		`{}`, `[]`, `null`, `1`, `-1.5e+9`, `"a"`, `""`, `true`, ` { "a" : [ 1 , 2, {} , [ ] ] , "b": null } `,
		`{"a":"\"]}","b":["[",",",":"],"c":{"d":{"e":[[],[[]]]}}}`, list(`{}`, 100), list(`{"a":1}`, 9), `{"1":1,"2":2,"3":3,"4":4,"5":5,"6":6,"7":7,"8":8,"9":9}`,
	} {
		if inText, inTree := WeighText([]byte(text)), Weigh(decode(t, text)); strings.Contains(text, `\`) && inText < inTree || !strings.Contains(text, `\`) && inText != inTree {
			t.Errorf("%s: the text weighs %d, the tree %d", text, inText, inTree)
		}
	}
	for _, text := range []string{``, `}`, `]]`, `"`, `"\`, `{"a`, `,:`} {
		WeighText([]byte(text)) // does not panic
	}
}

// The estimate is what limits are made of, so it must not be far below the truth.
func TestTheWeightIsThatOfTheHeap(t *testing.T) {
	for name, text := range map[string]string{
		"empty objects":    list(`{}`, 100_000),
		"small objects":    list(`{"key":"value"}`, 30_000),
		"empty lists":      list(`[]`, 100_000),
		"numbers":          list(`1`, 100_000),
		"short strings":    list(`"a"`, 100_000),
		"one long string":  `"` + strings.Repeat("x", 1<<20) + `"`,
		"an object's keys": `{` + strings.TrimSuffix(keys(50_000), ",") + `}`,
	} {
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		tree := decode(t, text)
		runtime.GC()
		runtime.ReadMemStats(&after)
		heap := int64(after.HeapAlloc) - int64(before.HeapAlloc)
		if weight := Weigh(tree); weight < heap*2/3 || weight > heap*3 {
			t.Errorf("%s: weighs %d, takes %d", name, weight, heap)
		}
		runtime.KeepAlive(tree)
	}
}

func keys(count int) string {
	var out strings.Builder
	for n := range count {
		fmt.Fprintf(&out, `"key-%d":1,`, n)
	}
	return out.String()
}

func FuzzWeighText(f *testing.F) {
	for _, seed := range []string{`{"a":[1,"b",{}]}`, `"\\\""`, `[[[`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		defer time.AfterFunc(time.Minute, func() { panic("one input takes longer than a minute") }).Stop()
		weight := WeighText(text)
		var tree any
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		// A repeated key counts twice in the text, and an escape weighs more than the character.
		if utf8.Valid(text) && json.Valid(text) && decoder.Decode(&tree) == nil && weight < Weigh(tree) {
			t.Errorf("%q weighs %d, and what it becomes %d", text, weight, Weigh(tree))
		}
	})
}
