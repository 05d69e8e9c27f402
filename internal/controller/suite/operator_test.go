package suite_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	. "github.com/onsi/gomega"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/raytls/raytls/internal/app"
	"github.com/raytls/raytls/internal/controller/webhookconfig"
	"github.com/raytls/raytls/internal/policy"
)

// The test binary is the operator, controller and webhook, when envOperator names its kubeconfig: a process can be killed at
// any moment, and a second one in the same process could not be started.
const (
	envOperator = "RAYTLS_SUITE_OPERATOR"
	envWrites   = "RAYTLS_SUITE_WRITES"
	// envDieAfter is after how many writes, events aside, the operator dies at once.
	envDieAfter = "RAYTLS_SUITE_DIE_AFTER"
	// envDieAt is a part of the path of a write, after the first of which the operator dies at once.
	envDieAt = "RAYTLS_SUITE_DIE_AT"
	// envWebhook is the address for admission requests, envWebhookOperator the webhook's kubeconfig, envMounted the folder with
	// its authority.
	envWebhook         = "RAYTLS_SUITE_WEBHOOK"
	envWebhookOperator = "RAYTLS_SUITE_WEBHOOK_OPERATOR"
	envMounted         = "RAYTLS_SUITE_MOUNTED"
	// envHeads is the folder that says what listens for which head.
	envHeads = "RAYTLS_SUITE_HEADS"
	// envMetrics is the address for the controller's metrics; empty for none.
	envMetrics = "RAYTLS_SUITE_METRICS"

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
	writes, err := os.OpenFile(os.Getenv(envWrites), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer writes.Close()
	dieAfter, _ := strconv.Atoi(os.Getenv(envDieAfter))
	count := &counter{to: writes, dieAfter: int64(dieAfter), dieAt: os.Getenv(envDieAt)}
	controller, err := count.connect(os.Getenv(envOperator))
	if err != nil {
		return err
	}
	admission, err := count.connect(os.Getenv(envWebhookOperator))
	if err != nil {
		return err
	}
	shared := app.Options{Namespace: operatorNamespace, Metrics: "0", Probes: "0", Images: policy.Allowlist{allowedImage}}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		ours := shared
		if address := os.Getenv(envMetrics); address != "" {
			ours.Metrics, ours.MetricsInsecure = address, true
		}
		return app.RunController(ctx, controller, app.ControllerOptions{Options: ours, ClusterDomain: clusterDomain, Dial: dialHead, Clock: aheadClock{}})
	})
	group.Go(func() error {
		mounted := os.Getenv(envMounted)
		if err := mount(ctx, controller, mounted); err != nil {
			return err
		}
		return app.RunWebhook(ctx, admission, app.WebhookOptions{
			Options: shared, Address: os.Getenv(envWebhook), CADirectory: mounted, IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")},
			ControllerUsername: "system:serviceaccount:" + operatorNamespace + ":raytls-controller",
		})
	})
	return group.Wait()
}

// clockFile, in the folder of the heads, says how far the operator's clock is ahead of the API server's.
const clockFile = "clock-ahead"

// aheadClock is a clock that a spec can put forward.
type aheadClock struct{}

func (aheadClock) Now() time.Time {
	text, _ := os.ReadFile(filepath.Join(os.Getenv(envHeads), clockFile))
	ahead, _ := time.ParseDuration(string(text)) // none without a file
	return time.Now().Add(ahead)
}

func (c aheadClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// dateFile, in the folder of the heads, says how far the API server's clock is ahead of the operator's, as its answers have it.
const dateFile = "date-ahead"

// moveDate has an answer of the API server be of such a clock.
func moveDate(response *http.Response) {
	text, _ := os.ReadFile(filepath.Join(os.Getenv(envHeads), dateFile))
	ahead, err := time.ParseDuration(string(text)) // none without a file
	if date, dateErr := http.ParseTime(response.Header.Get("Date")); err == nil && dateErr == nil {
		response.Header.Set("Date", date.Add(ahead).UTC().Format(http.TimeFormat))
	}
}

// dialHead connects to what a spec serves for a head. A file with the head's address as its name says where that listens.
func dialHead(ctx context.Context, network, address string) (net.Conn, error) {
	listener, err := os.ReadFile(filepath.Join(os.Getenv(envHeads), address))
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	return (&net.Dialer{}).DialContext(ctx, network, string(listener))
}

// mount does what the kubelet does for a volume: it waits for the Secret, and has the folder follow it. Like the kubelet it never
// lets a file be seen half written.
func mount(ctx context.Context, config *rest.Config, folder string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	follow := func(ctx context.Context) (bool, error) {
		secret, err := clients.CoreV1().Secrets(operatorNamespace).Get(ctx, webhookconfig.Secret, metav1.GetOptions{})
		if err != nil {
			return false, nil //nolint:nilerr // it is not there yet
		}
		for name, content := range secret.Data {
			path := filepath.Join(folder, name)
			if err := errors.Join(os.WriteFile(path+".new", content, 0o600), os.Rename(path+".new", path)); err != nil {
				return false, err
			}
		}
		return true, nil
	}
	const interval = 100 * time.Millisecond
	if err := wait.PollUntilContextCancel(ctx, interval, true, follow); err != nil {
		return err
	}
	go wait.UntilWithContext(ctx, func(ctx context.Context) { _, _ = follow(ctx) }, interval)
	return nil
}

// counter notes each write with its outcome.
type counter struct {
	to       io.Writer
	dieAfter int64
	dieAt    string
	made     atomic.Int64
	dying    sync.Mutex
}

// connect reads a kubeconfig and has what is written by it noted.
func (c *counter) connect(kubeconfig string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return counted{c, next} })
	return config, nil
}

// counted is a connection that a counter notes the writes of.
type counted struct {
	*counter
	next http.RoundTripper
}

func (c counted) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Method == http.MethodGet || request.Method == http.MethodHead {
		response, err := c.next.RoundTrip(request)
		if err == nil {
			moveDate(response)
		}
		return response, err
	}
	if c.dieAfter > 0 || c.dieAt != "" {
		c.dying.Lock() // no write is on its way, and not noted, when the process dies
		defer c.dying.Unlock()
	}
	response, err := c.next.RoundTrip(request)
	code := 0
	if err == nil {
		code = response.StatusCode
		moveDate(response)
	}
	_, _ = fmt.Fprintf(c.to, "%s %s %d\n", request.Method, request.URL.Path, code)
	if strings.Contains(request.URL.Path, "/events") {
		return response, err
	}
	if c.dieAfter > 0 && c.made.Add(1) == c.dieAfter || c.dieAt != "" && strings.Contains(request.URL.Path, c.dieAt) {
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
	// doomed reports whether it dies after a write, and killed whether a spec killed it. The next spec needs another one.
	doomed, killed bool
	// Its log begins in that file, there.
	logFile string
	logFrom int64
	// webhook is its address for admission requests.
	webhook string
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
	p := &process{
		cmd: exec.Command(self), ended: make(chan struct{}), doomed: len(extra) > 0,
		logFile: e.logFile, logFrom: info.Size(), webhook: e.webhook,
	}
	p.cmd.Env = append(os.Environ(), append(extra, envOperator+"="+e.kubeconfig, envWrites+"="+e.writes,
		envWebhook+"="+e.webhook, envWebhookOperator+"="+e.webhookKubeconfig, envMounted+"="+e.mounted, envHeads+"="+e.heads)...)
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

// works says whether the controllers have begun to work, before which what the operator leaves alone says nothing, and the
// webhook has a certificate.
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
	dialer := &net.Dialer{Timeout: time.Second}
	connection, err := tls.DialWithDialer(dialer, "tcp", p.webhook, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return false, nil //nolint:nilerr // it does not serve yet
	}
	return true, connection.Close()
}

// kill ends the operator as a node that goes down would.
func (p *process) kill() {
	p.killed = true
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
