package app

import (
	"context"
	"time"
)

// lingering ends that much later than ctx: API servers send requests to a replica until they have heard that it ends.
func lingering(ctx context.Context, delay time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(delay):
		case <-out.Done():
		}
		cancel()
	})
	return out, func() {
		stop()
		cancel()
	}
}
