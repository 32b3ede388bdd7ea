package main

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sipmuster/muster/bench/measure"
	"github.com/sipmuster/muster/interop"
)

//go:embed uac.cfg
var uacConfig []byte

// uacClient is Kamailio with its own client for remote registrations.
type uacClient struct {
	cmd  *exec.Cmd
	done chan error
}

// startUAC starts the client. Its first accounts register in wait, the others
// at the rate, second by second, because that is how its timer works; 0 lets all
// go in one second.
func startUAC(dir, registrar string, port, users int, rate float64, expires, wait time.Duration) (*uacClient, error) {
	path, err := findKamailio()
	if err != nil {
		return nil, err
	}
	const columns = "id(int,auto) l_uuid(string) l_username(string) l_domain(string) r_username(string) r_domain(string) realm(string) " +
		"auth_username(string) auth_password(string) auth_ha1(string,null) auth_proxy(string) expires(int) flags(int) reg_delay(int) contact_addr(string,null) socket(string,null) \n"
	rows := []byte(columns)
	for i := range users {
		delay := int(wait.Seconds())
		if rate > 0 {
			delay += int(float64(i) / rate)
		}
		rows = fmt.Appendf(rows, "%d:u%d:u%d:example.test:u%d:example.test:example.test:u%d:pw-u%d::sip\\:%s:%d:0:%d::\n",
			i+1, i, i, i, i, i, strings.ReplaceAll(registrar, ":", `\:`), int(expires.Seconds()), delay)
	}
	config := filepath.Join(dir, "uac.cfg")
	err = errors.Join(
		os.WriteFile(config, uacConfig, 0o600), os.WriteFile(filepath.Join(dir, "uacreg"), rows, 0o600),
		os.WriteFile(filepath.Join(dir, "version"), []byte("table_name(string) table_version(int) \nuacreg:5\n"), 0o600),
	)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "uac.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c := &uacClient{done: make(chan error, 1)}
	c.cmd = exec.Command(path, "-DD", "-E", "-f", config, "-m", "1024", "-M", "64", "-b", "8388608", "-Y", dir, "-w", dir, "-P", filepath.Join(dir, "uac.pid"),
		"-l", fmt.Sprintf("udp:127.0.0.1:%d", port), "-A", `TABLES="text://`+dir+`"`, "-A", fmt.Sprintf(`CONTACT="127.0.0.1:%d"`, port))
	c.cmd.Stdout, c.cmd.Stderr = log, log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { c.done <- c.cmd.Wait() }()
	return c, nil
}

func findKamailio() (string, error) {
	if path, err := exec.LookPath("kamailio"); err == nil {
		return path, nil
	}
	const debian = "/usr/sbin/kamailio"
	if _, err := os.Stat(debian); err != nil {
		return "", errNotInstalled
	}
	return debian, nil
}

// cpu is the user and system time of all its processes so far.
func (c *uacClient) cpu() time.Duration {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var sum time.Duration
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		const group = 2 // after the state and the parent
		if fields := strings.Fields(rest); len(fields) > group && fields[group] == strconv.Itoa(c.cmd.Process.Pid) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			sum += measure.Process(pid).CPU()
		}
	}
	return sum
}

func (c *uacClient) stop() {
	_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGTERM)
	select {
	case err := <-c.done:
		c.done <- err
	case <-time.After(5 * time.Second):
		_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
	}
}

// uac measures Kamailio's client: the registrations, and then so many rounds of
// refreshes, each of which is challenged again because it keeps no nonce.
func uac(dir string, k *interop.Kamailio, users int, rate float64, refresh bool) (result, error) {
	port, err := freePort()
	if err != nil {
		return result{}, err
	}
	// It refreshes a few seconds before the end. Registrations are measured
	// before the first of them.
	const early, wait = 4 * time.Second, 5 * time.Second
	expires := time.Hour
	if refresh {
		expires = time.Duration(float64(users)/max(rate, 1)*float64(time.Second)) + early
	}
	c, err := startUAC(dir, registrarAddr(k), port, users, rate, expires, wait)
	if err != nil {
		return result{}, err
	}
	defer c.stop()
	time.Sleep(wait - 2*time.Second) // it has read its table
	if len(c.done) > 0 {
		log, _ := os.ReadFile(filepath.Join(dir, "uac.log"))
		return result{}, fmt.Errorf("it ended: %s", tail(log))
	}
	from, err := sample(k, c.cpu)
	if err != nil {
		return result{}, err
	}
	to, err := until(k, c.cpu, from.accepted+users)
	if err != nil || !refresh {
		return to.since(from), err
	}
	// One round in which they spread as the registrations did, and two that
	// count.
	if from, err = until(k, c.cpu, to.accepted+users); err != nil {
		return result{}, err
	}
	to, err = until(k, c.cpu, from.accepted+2*users)
	return to.since(from), err
}
