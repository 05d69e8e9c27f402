// Demo shows on one machine, without a cluster, what the operator does for a RayCluster: a real API server, the real
// KubeRay and the real operator; the init containers' commands run for real, and their certificates meet over gRPC.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// patience bounds the whole demo, which takes half a minute.
const patience = 5 * time.Minute

// errVerdict is returned when the demo went through and something in it was not as expected.
var errVerdict = errors.New("not everything was as expected")

// options are what hack/demo/run has built and where it is.
type options struct {
	work, assets, kuberay, kuberayCRDs, manager string
}

func main() {
	var o options
	flag.StringVar(&o.work, "work", "", "A directory for everything that the demo writes. It is removed at the end.")
	flag.StringVar(&o.assets, "assets", "", "The directory of etcd and kube-apiserver.")
	flag.StringVar(&o.kuberay, "kuberay", "", "The KubeRay operator.")
	flag.StringVar(&o.kuberayCRDs, "kuberay-crds", "", "The directory of KubeRay's CRDs.")
	flag.StringVar(&o.manager, "manager", "", "The raytls operator.")
	flag.Parse()
	if o.work == "" || o.assets == "" || o.kuberay == "" || o.kuberayCRDs == "" || o.manager == "" {
		fmt.Fprintln(os.Stderr, "demo: run hack/demo/run, which builds what is needed and passes it on")
		os.Exit(2)
	}
	// A second Ctrl-C is ignored as well, so that what was started is stopped.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	// `make demo | head` must not kill what cleans up: the screen notices that nobody reads. The signal itself says
	// nothing, for a connection that a peer has closed raises it as well.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	err := run(ctx, o, os.Stdout)
	stop()
	if err != nil {
		os.Exit(1)
	}
}

// run plays the demo and says the verdict as its last line. Whatever happens, at its end nothing that it started
// runs and the work directory is gone. told ends when the user tells it to stop; so does a user who closes the output.
func run(told context.Context, o options, out io.Writer) (err error) {
	began := time.Now()
	told, stop := context.WithCancel(told)
	defer stop()
	s := &screen{out: out, unread: stop}
	defer func() {
		err = errors.Join(err, os.RemoveAll(o.work))
		s.verdict(err, told.Err() != nil, time.Since(began))
	}()
	ctx, cancel := context.WithTimeoutCause(told, patience, fmt.Errorf("the demo takes longer than %s", patience))
	defer cancel()

	for _, dir := range []string{"tmp", "logs", "pods"} {
		if err := os.Mkdir(filepath.Join(o.work, dir), 0o700); err != nil {
			return err
		}
	}
	// envtest keeps its certificates and etcd's data where temporary files go.
	if err := os.Setenv("TMPDIR", filepath.Join(o.work, "tmp")); err != nil {
		return err
	}
	env, err := startEnvironment(ctx, o, s)
	defer func() {
		if err != nil && !errors.Is(err, errVerdict) && told.Err() == nil {
			s.logs(filepath.Join(o.work, "logs"))
		}
		err = errors.Join(err, env.stop())
	}()
	if err != nil {
		return err
	}
	return env.withKubelet(func(k *kubelet) error {
		return (&story{screen: s, env: env, kubelet: k}).tell()
	})
}
