package listen

import (
	"context"
	"net"
	"net/netip"
	"sync"
)

// listener bounds how many connections are open. When there are too many, it closes one that waits for its peer, of the
// address that has most of them: somebody who opens many connections closes their own.
type listener struct {
	net.Listener
	most int

	mu    sync.Mutex
	conns []*conn // the oldest first
}

// conn is an open connection.
type conn struct {
	net.Conn
	from *listener
	peer netip.Addr
	// working reports whether a whole request has come and has no answer yet. The listener's mutex guards it.
	working bool
}

// Accept returns the next connection that there is room for.
func (l *listener) Accept() (net.Conn, error) {
	for {
		inner, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: inner, from: l, peer: addressOf(inner.RemoteAddr().String())}
		closing := l.add(c)
		if closing != nil {
			_ = closing.Close()
		}
		if closing != c {
			return c, nil
		}
	}
}

// add puts a connection among the open ones, and returns one to close, which may be the same; nil for none.
func (l *listener) add(c *conn) *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, c)
	if len(l.conns) <= l.most {
		return nil
	}
	count := map[netip.Addr]int{}
	for _, other := range l.conns {
		count[other.peer]++
	}
	closing := c
	for _, other := range l.conns {
		if !other.working && (closing == c && count[other.peer] == count[c.peer] || count[other.peer] > count[closing.peer]) {
			closing = other
		}
	}
	return closing
}

// Close closes the connection and makes room for another.
func (c *conn) Close() error {
	c.from.mu.Lock()
	for i, other := range c.from.conns {
		if other == c {
			c.from.conns = append(c.from.conns[:i], c.from.conns[i+1:]...)
			break
		}
	}
	c.from.mu.Unlock()
	return c.Conn.Close()
}

func (c *conn) work(working bool) {
	c.from.mu.Lock()
	defer c.from.mu.Unlock()
	c.working = working
}

// addressOf is the address of what net/http calls a remote address; the zero value for what is none.
func addressOf(remote string) netip.Addr {
	found, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return found.Addr().Unmap().WithZone("")
}

type connKey struct{}

// withConn keeps the connection in the contexts of its requests. outer is what the server reads from.
func withConn(ctx context.Context, outer net.Conn) context.Context {
	if wrapper, ok := outer.(interface{ NetConn() net.Conn }); ok {
		outer = wrapper.NetConn()
	}
	return context.WithValue(ctx, connKey{}, outer)
}
