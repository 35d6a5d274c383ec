package devidp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
)

const (
	stateName = "issuer.json"
	maxState  = 64 << 10
	clientID  = "sessiond-dev"
)

// State is what a provider must keep so that tokens and clients outlive it.
type State struct {
	SigningKey   *ecdsa.PrivateKey // P-256
	ClientID     string
	ClientSecret string // 130 random bits or more
}

// LogValue keeps the secrets out of logs.
func (s *State) LogValue() slog.Value {
	return slog.GroupValue(slog.String("client_id", s.ClientID))
}

// stateFile is the JSON form of State.
type stateFile struct {
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
	SigningKey   []byte `json:"signing_key"` // PKCS #8
}

// LoadOrCreateState returns the state kept in the file issuer.json under dir. If there is none it makes both, with a
// new key and client secret, for the owner's eyes only. Processes that do so at the same time get the same state.
// It refuses a file that others may access or that is damaged; removing the file makes a new issuer.
func LoadOrCreateState(dir string) (*State, error) {
	path := filepath.Join(dir, stateName)
	s, err := loadState(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := createState(path); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("create issuer state: %w", err)
		}
		// Read it back, since another process may have been faster.
		s, err = loadState(path)
	}
	if err != nil {
		return nil, fmt.Errorf("load issuer state: %w", err)
	}
	return s, nil
}

func loadState(path string) (*State, error) {
	// O_NONBLOCK: opening a named pipe must not wait for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s is open to its group or others: run chmod 600 on it", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxState))
	if err != nil {
		return nil, err
	}
	s, err := parseState(text)
	if err != nil {
		return nil, fmt.Errorf("%s is damaged (%w): remove it to get a new issuer", path, err)
	}
	return s, nil
}

// parseState gives its own errors, because those of decoders may quote secrets.
func parseState(text []byte) (*State, error) {
	var file stateFile
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if decoder.Decode(&file) != nil || decoder.Decode(new(json.RawMessage)) != io.EOF {
		return nil, errors.New("not the expected JSON")
	}
	key, err := x509.ParsePKCS8PrivateKey(file.SigningKey)
	if err != nil {
		return nil, errors.New("no signing key")
	}
	signing, ok := key.(*ecdsa.PrivateKey)
	if !ok || signing.Curve != elliptic.P256() {
		return nil, errors.New("signing key is not on curve P-256")
	}
	if file.ClientID == "" || len(file.ClientSecret) < 26 {
		return nil, errors.New("no client credentials")
	}
	return &State{SigningKey: signing, ClientID: file.ClientID, ClientSecret: file.ClientSecret}, nil
}

// createState publishes a new state under path unless something is there, in which case it returns fs.ErrExist.
func createState(path string) (err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(stateFile{ClientID: clientID, ClientSecret: rand.Text(), SigningKey: der}, "", "  ")
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(dir, "."+stateName+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(temp.Name())) }()
	_, err = temp.Write(append(text, '\n'))
	if err == nil {
		err = temp.Sync()
	}
	if err := errors.Join(err, temp.Close()); err != nil {
		return err
	}
	// A link, unlike a rename, does not replace the state of a faster process.
	if err := os.Link(temp.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
