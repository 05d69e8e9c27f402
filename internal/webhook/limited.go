package webhook

import (
	"context"
	"errors"
	"net/http"

	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/raytls/raytls/internal/limit"
	"github.com/raytls/raytls/internal/listen"
)

// Limited hands over a few requests at a time, and fewer of one namespace: whoever may create objects there decides how many
// come, and all namespaces wait for the same replicas.
type Limited struct {
	Handler admission.Handler
	Limiter *limit.Limiter
}

// Limits are those of one replica. A request takes up to 40 MiB of memory while it is worked on, and its own size while it waits.
func Limits() limit.Options {
	return limit.Options{Slots: 8, Share: 2, Waiting: 32 << 20, WaitingShare: 8 << 20}
}

// Handle answers one admission request.
func (l *Limited) Handle(ctx context.Context, request admission.Request) admission.Response {
	listen.Received(ctx)
	weight := len(request.Object.Raw) + len(request.OldObject.Raw)
	release, err := l.Limiter.Acquire(ctx, limit.Key{Source: listen.Peer(ctx), Name: request.Namespace}, int64(weight))
	if err != nil {
		return admission.Errored(http.StatusTooManyRequests, errors.New("raytls is busy with other requests, so try again"))
	}
	defer release()
	return l.Handler.Handle(ctx, request)
}
