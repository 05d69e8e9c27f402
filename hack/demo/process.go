package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// grace is how long a process has to end when it is told to.
const grace = 10 * time.Second

// process is a program in a process group of its own, so that Ctrl-C reaches the demo alone, and so that
// whatever the program started ends with it.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait, once done is closed
}

// startProcess starts a program whose output goes to a file. env is added to the demo's own.
func startProcess(logFile string, env []string, path string, args ...string) (*process, error) {
	output, err := os.Create(logFile)
	if err != nil {
		return nil, err
	}
	defer output.Close() //nolint:errcheck // the program has it, too
	p := &process{name: filepath.Base(path), done: make(chan struct{})}
	p.cmd = exec.Command(path, args...) //nolint:gosec,noctx // what hack/demo/run has built; stop ends it
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = output, output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		if p.err == nil {
			p.err = errors.New("without an error")
		}
		close(p.done)
	}()
	return p, nil
}

// stop ends the process group: gently, then by force. It returns when the program is gone.
func (p *process) stop() error {
	group := -p.cmd.Process.Pid
	select {
	case <-p.done:
	default:
		if err := syscall.Kill(group, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stopping %s: %w", p.name, err)
		}
		select {
		case <-p.done:
		case <-time.After(grace):
		}
	}
	if err := syscall.Kill(group, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("killing %s: %w", p.name, err)
	}
	<-p.done
	return nil
}
