package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// writeCertificate writes a self-signed certificate for 127.0.0.1 into dir, over
// an earlier one, and returns it. Each call makes the files a second newer.
func writeCertificate(t *testing.T, dir string, serial int64) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: fmt.Sprintf("test %d", serial)},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Unix(1_700_000_000+serial, 0)
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func TestServeTLS(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.serve(t)
	dir := t.TempDir()
	writeCertificate(t, dir, 1)
	s := start(t, nil, "serve", "--config", i.configFile(t, fmt.Sprintf(
		"store: {url: 'memory:'}\ntls: {cert_file: %s/cert.pem, key_file: %s/key.pem}", dir, dir)))
	s.waitReady()
	s.findAddresses("https")

	// The first handshake finds that the certificate was renewed since the start.
	roots := x509.NewCertPool()
	roots.AddCert(writeCertificate(t, dir, 2))
	for _, version := range []int{1, 2} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, Protocols: new(http.Protocols)}
		transport.Protocols.SetHTTP1(version == 1)
		transport.Protocols.SetHTTP2(version == 2)
		s.checkProtocol(transport, version, i.token(t, "sessions:read"))
	}
	old := &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS11}
	if conn, err := tls.Dial("tcp", strings.TrimPrefix(s.api, "https://"), old); err == nil {
		conn.Close()
		t.Error("TLS 1.1 is spoken")
	}
	if got := s.status("http" + strings.TrimPrefix(s.api, "https") + "/sessions/"); got != http.StatusBadRequest {
		t.Errorf("cleartext is answered %d", got)
	}
	if code := s.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestCertificateReload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		writeCertificate(t, dir, 1)
		c, err := newCertificate(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"),
			slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		serves := func(serial int64) {
			t.Helper()
			pair, err := c.get(nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := pair.Leaf.SerialNumber.Int64(); got != serial {
				t.Errorf("certificate %d is served, want %d", got, serial)
			}
		}
		serves(1)
		writeCertificate(t, dir, 2)
		serves(1) // looked at less than certificateCheck ago
		time.Sleep(certificateCheck)
		serves(2)

		// Half of a renewal: the certificate does not belong to the key.
		key, err := os.ReadFile(filepath.Join(dir, "key.pem"))
		if err != nil {
			t.Fatal(err)
		}
		writeCertificate(t, dir, 3)
		newKey, err := os.ReadFile(filepath.Join(dir, "key.pem"))
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			key    []byte
			serial int64
		}{{key, 2}, {newKey, 3}} {
			if err := os.WriteFile(filepath.Join(dir, "key.pem"), step.key, 0o600); err != nil {
				t.Fatal(err)
			}
			time.Sleep(certificateCheck)
			serves(step.serial)
		}
		if got := strings.Count(log.String(), "certificate not reloaded"); got != 1 {
			t.Errorf("%d complaints:\n%s", got, &log)
		}
		if err := os.Remove(filepath.Join(dir, "cert.pem")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(certificateCheck)
		serves(3)
	})
}
