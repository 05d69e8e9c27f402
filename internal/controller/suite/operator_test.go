package suite_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	. "github.com/onsi/gomega"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/raytls/raytls/internal/app"
	"github.com/raytls/raytls/internal/controller/acceptance"
	"github.com/raytls/raytls/internal/webhook/serving"
)

// The test binary is the operator when envOperator names its kubeconfig: a process can be killed at any moment, and a
// second one in the same process could not be started.
const (
	envOperator = "RAYTLS_SUITE_OPERATOR"
	envWrites   = "RAYTLS_SUITE_WRITES"
	// envDieAfter is after how many writes, events aside, the operator dies at once.
	envDieAfter = "RAYTLS_SUITE_DIE_AFTER"
	// envWebhook is the address for admission requests; envRotates has its certificate replaced every few seconds.
	envWebhook = "RAYTLS_SUITE_WEBHOOK"
	envRotates = "RAYTLS_SUITE_ROTATES"

	exitDied      = 7
	allowedImage  = "registry.example/openssl:1"
	clusterDomain = "k8s.example"
)

func runOperator() int {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends when the suite does, however it does
		os.Exit(3)
	}()
	ctrl.SetLogger(zap.New(zap.UseDevMode(false)))
	if err := runOperatorUntilSignal(ctrl.SetupSignalHandler()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func runOperatorUntilSignal(ctx context.Context) error {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv(envOperator))
	if err != nil {
		return err
	}
	writes, err := os.OpenFile(os.Getenv(envWrites), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer writes.Close()
	dieAfter, _ := strconv.Atoi(os.Getenv(envDieAfter))
	config = rest.CopyConfig(config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return &counter{next: next, to: writes, dieAfter: int64(dieAfter)}
	})
	profile := serving.NewProfile("raytls-webhook", operatorNamespace)
	profile.DNSNames, profile.IPs = nil, []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	if os.Getenv(envRotates) != "" {
		profile.Validity, profile.Settling, profile.Retiring = 24*time.Second, 2*time.Second, 4*time.Second
	}
	return app.Run(ctx, config, app.Options{
		Namespace: operatorNamespace, Metrics: "0", Probes: "0", Images: acceptance.Allowlist{allowedImage},
		Webhook: os.Getenv(envWebhook), WebhookProfile: &profile,
		ClusterDomain: clusterDomain,
	})
}

// counter notes each write with its outcome.
type counter struct {
	next     http.RoundTripper
	to       io.Writer
	dieAfter int64
	made     atomic.Int64
}

func (c *counter) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Method == http.MethodGet || request.Method == http.MethodHead {
		return c.next.RoundTrip(request)
	}
	response, err := c.next.RoundTrip(request)
	code := 0
	if err == nil {
		code = response.StatusCode
	}
	_, _ = fmt.Fprintf(c.to, "%s %s %d\n", request.Method, request.URL.Path, code)
	// Neither an event nor the question who one is changes anything.
	nothing := strings.Contains(request.URL.Path, "/events") || strings.HasSuffix(request.URL.Path, "/selfsubjectreviews")
	if !nothing && c.dieAfter > 0 && c.made.Add(1) == c.dieAfter {
		os.Exit(exitDied)
	}
	return response, err
}

// process is a running operator.
type process struct {
	cmd   *exec.Cmd
	input io.Closer
	ended chan struct{}
	err   error
	// Its log begins in that file, there.
	logFile string
	logFrom int64
}

func (e *environment) startOperator(extra ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(e.logFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	info, err := log.Stat()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(self), ended: make(chan struct{}), logFile: e.logFile, logFrom: info.Size()}
	p.cmd.Env = append(os.Environ(), append(extra, envOperator+"="+e.kubeconfig, envWrites+"="+e.writes, envWebhook+"="+e.webhook)...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if p.input, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// works says whether the controllers have begun to work: before that, what the operator leaves alone says nothing.
func (p *process) works() (bool, error) {
	if !p.running() {
		return false, StopTrying("the operator ended by itself; see its log").Wrap(p.err)
	}
	log, err := os.ReadFile(p.logFile)
	if err != nil {
		return false, err
	}
	for _, controller := range []string{"raycluster", "raytlspolicy"} {
		if !bytes.Contains(log[p.logFrom:], []byte(`"msg":"Starting workers","controller":"`+controller+`"`)) {
			return false, nil
		}
	}
	return true, nil
}

// kill ends the operator as a node that goes down would.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// stop ends the operator as a rollout of its Deployment would. The error is non-nil if it ended before, or badly.
func (p *process) stop() error {
	if !p.running() {
		return fmt.Errorf("the operator ended by itself: %w", errors.Join(p.err, errors.New("see its log")))
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	<-p.ended
	return p.err
}
