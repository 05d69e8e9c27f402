// Package suite_test runs the operator as it is deployed, as a process of its own under its own RBAC, against a real API
// server, with a stand-in for KubeRay and the kubelets that each spec moves step by step.
package suite_test

import (
	"os"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	ctrl "sigs.k8s.io/controller-runtime"
)

var (
	env      *environment
	operator *process
)

func TestMain(m *testing.M) {
	if os.Getenv(envOperator) != "" {
		os.Exit(runOperator())
	}
	os.Exit(m.Run())
}

func TestSuite(t *testing.T) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Skip("KUBEBUILDER_ASSETS is not set; hack/test sets it")
	}
	RegisterFailHandler(Fail)
	ctrl.SetLogger(GinkgoLogr)
	// Long, since a spec shares the machine with other processes'.
	SetDefaultEventuallyTimeout(90 * time.Second)
	SetDefaultEventuallyPollingInterval(40 * time.Millisecond)
	SetDefaultConsistentlyDuration(800 * time.Millisecond)
	SetDefaultConsistentlyPollingInterval(40 * time.Millisecond)
	RunSpecs(t, suiteName())
}

var _ = BeforeSuite(func() {
	var err error
	env, err = newEnvironment(GinkgoT().TempDir())
	Expect(err).NotTo(HaveOccurred())
	// Ginkgo does this after AfterSuite, whatever fails before: nobody else ends the API server.
	DeferCleanup(env.stop)
	Expect(env.start()).To(Succeed())
	Eventually(env.guarded).Should(Succeed())
	operator, err = env.startOperator()
	Expect(err).NotTo(HaveOccurred())
	Eventually(operator.works).Should(BeTrue())
})

var _ = AfterSuite(func() {
	if operator == nil {
		return // BeforeSuite has reported the error
	}
	Expect(operator.stop()).To(Succeed(), "the operator ends without an error when it is told to")
	log, err := os.ReadFile(env.logFile)
	Expect(err).NotTo(HaveOccurred())
	for line := range strings.Lines(string(log)) {
		Expect(line).NotTo(ContainSubstring("is forbidden"), "the roles and guards allow all that the operator does")
		Expect(line).NotTo(ContainSubstring("PRIVATE KEY"), "no key is logged")
		Expect(line).NotTo(ContainSubstring("panic"), "nothing panics")
		Expect(line).NotTo(ContainSubstring("DATA RACE"))
	}
})
