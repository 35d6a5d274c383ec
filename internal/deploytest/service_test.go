package deploytest_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// drainTime is how long the program lets requests in flight take, in seconds.
func drainTime(t *testing.T) int {
	t.Helper()
	return number(t, submatch(t, "cmd/sessiond/service.go", `drainTime = (\d+) \* time\.Second`))
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Whoever ends the process has to give it the time that it takes, and some for closing the store.
func TestStopTimes(t *testing.T) {
	t.Parallel()
	least := drainTime(t) + 5
	for file, pattern := range map[string]string{
		"deploy/systemd/sessiond.service":  `(?m)^TimeoutStopSec=(\d+)$`,
		"deploy/helm/sessiond/values.yaml": `(?m)^terminationGracePeriodSeconds: (\d+)$`,
		"deploy/docker/Dockerfile":         `docker stop" at least --time (\d+)`,
	} {
		if got := number(t, submatch(t, file, pattern)); got < least {
			t.Errorf("%s: %d s to stop, want at least %d", file, got, least)
		}
	}
	if got := number(t, submatch(t, "deploy/helm/sessiond/values.schema.json",
		`"terminationGracePeriodSeconds": \{"type": "integer", "minimum": (\d+)\}`)); got < least {
		t.Errorf("the chart accepts %d s to stop, want at least %d", got, least)
	}
}

func TestUnitIsHardened(t *testing.T) {
	t.Parallel()
	unit := "\n" + read(t, "deploy/systemd/sessiond.service")
	for _, line := range []string{
		"User=sessiond", "StateDirectory=sessiond", "StateDirectoryMode=0700", "UMask=0077", "Restart=on-failure",
		"NoNewPrivileges=yes", "CapabilityBoundingSet=", "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes",
		"PrivateDevices=yes", "ProtectKernelTunables=yes", "RestrictNamespaces=yes", "MemoryDenyWriteExecute=yes",
		"SystemCallFilter=@system-service", "LimitCORE=0",
		"ExecStart=/usr/local/bin/sessiond serve --config /etc/sessiond/config.yaml",
	} {
		if !strings.Contains(unit, "\n"+line+"\n") {
			t.Errorf("the unit does not say %s", line)
		}
	}
	limit := number(t, submatch(t, "deploy/systemd/sessiond.service", `(?m)^Environment=GOMEMLIMIT=(\d+)MiB$`))
	if most := number(t, submatch(t, "deploy/systemd/sessiond.service", `(?m)^MemoryMax=(\d+)G$`)); limit > most*1024*9/10 {
		t.Errorf("GOMEMLIMIT is %d MiB of %d GiB", limit, most)
	}
}

func TestImageRunsUnprivileged(t *testing.T) {
	t.Parallel()
	const name = "deploy/docker/Dockerfile"
	var instructions []string
	for line := range strings.Lines(strings.ReplaceAll(read(t, name), "\\\n", " ")) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			instructions = append(instructions, line)
		}
	}
	last := 0
	for i, line := range instructions {
		if strings.HasPrefix(line, "FROM ") {
			last = i
		}
	}
	final := instructions[last:]
	if final[0] != "FROM gcr.io/distroless/static-debian12:nonroot" {
		t.Errorf("the image is %s", final[0])
	}
	has := func(instruction string) (found bool) {
		for _, line := range final {
			found = found || line == instruction
		}
		return found
	}
	for _, line := range []string{"USER 65532:65532", `ENTRYPOINT ["/usr/local/bin/sessiond"]`} {
		if !has(line) {
			t.Errorf("the image does not say %s", line)
		}
	}
	for _, line := range final {
		if strings.HasPrefix(line, "RUN ") {
			t.Errorf("there is no shell for %s", line)
		}
	}
	build := strings.Join(instructions[:last], "\n")
	if !regexp.MustCompile(`CGO_ENABLED=0 .*go build -trimpath .*\./cmd/sessiond`).MatchString(build) {
		t.Errorf("the program is not built as it should:\n%s", build)
	}
	// The image's Go has to be at least that of go.mod.
	image := number(t, submatch(t, name, `FROM --platform=\$BUILDPLATFORM golang:1\.(\d+)\.`))
	if module := number(t, submatch(t, "go.mod", `(?m)^go 1\.(\d+)`)); image < module {
		t.Errorf("the image is built with Go 1.%d, the module wants 1.%d", image, module)
	}
}
