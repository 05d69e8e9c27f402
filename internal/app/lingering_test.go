package app

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestLingering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told, tell := context.WithCancel(t.Context())
		ctx, cancel := lingering(told, 3*time.Second)
		defer cancel()
		tell()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if ctx.Err() != nil {
			t.Error("it ends while requests may still come")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if ctx.Err() == nil {
			t.Error("it does not end")
		}
	})
}
