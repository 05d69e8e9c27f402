package suite_test

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/raytls/raytls/internal/app"
	"github.com/raytls/raytls/internal/timescale"
)

var _ = Describe("Short days", func() {
	It("are refused by a controller whose namespace is not labelled for tests", func() {
		ctx, stop := context.WithTimeout(context.Background(), time.Minute)
		defer stop()
		err := app.RunController(ctx, env.server.Config, app.ControllerOptions{
			Options: app.Options{Namespace: operatorNamespace, Metrics: "0", Probes: "0"}, Scale: timescale.Scale{MinutesPerDay: 1},
		})
		Expect(err).To(MatchError(ContainSubstring("--testing-minutes-per-day is for tests alone")))
	})
})
