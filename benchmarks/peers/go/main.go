// The edge's work as a Go service would do it: net/http and encoding/json, rules in a loop.
//
//	edge PORT SETTINGS.json SNAPSHOT
//
// It parses the same context, looks the token up in a map, evaluates the same rules (bucketing
// included) and encodes the same answers; a bulk answer has an ETag. No limits, no deadlines but
// those of net/http, no counts, nothing followed. Standard library only.
package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"io"
	"log"
	"math/bits"
	"net/http"
	"os"
	"strings"
)

type Condition struct {
	Attribute string
	Values    map[string]bool
}

type Arm struct {
	Variant string
	End     uint64
}

type Rule struct {
	Conditions []Condition
	Serve      string
	Split      []Arm
}

type Metadata struct {
	FlagSetID string `json:"flagSetId"`
	Version   string `json:"version"`
}

type Setting struct {
	Key      string
	Variants map[string]any
	Default  string
	Rules    []Rule
	Metadata json.RawMessage
	metadata map[string]any
}

type Answer struct {
	Key      string         `json:"key"`
	Reason   string         `json:"reason"`
	Variant  string         `json:"variant"`
	Value    any            `json:"value"`
	Metadata map[string]any `json:"metadata,omitempty"`
}

type Bulk struct {
	Flags []Answer `json:"flags"`
}

type Ask struct {
	Context map[string]any `json:"context"`
}

type World struct {
	Token    string
	Services map[string][]*Setting
}

var (
	tokens   = map[string]bool{}
	services = map[string][]*Setting{}
	byKey    = map[string]map[string]*Setting{}
	snapshot []byte
	seed     = maphash.MakeSeed()
)

const etag = `"go"`

func murmur3(data []byte) uint32 {
	var h uint32
	n := len(data)
	for len(data) >= 4 {
		k := binary.LittleEndian.Uint32(data) * 0xcc9e2d51
		h ^= bits.RotateLeft32(k, 15) * 0x1b873593
		h = bits.RotateLeft32(h, 13)*5 + 0xe6546b64
		data = data[4:]
	}
	var k uint32
	switch len(data) {
	case 3:
		k ^= uint32(data[2]) << 16
		fallthrough
	case 2:
		k ^= uint32(data[1]) << 8
		fallthrough
	case 1:
		k ^= uint32(data[0])
		h ^= bits.RotateLeft32(k*0xcc9e2d51, 15) * 0x1b873593
	}
	h ^= uint32(n)
	h ^= h >> 16
	h *= 0x85ebca6b
	h ^= h >> 13
	h *= 0xc2b2ae35
	return h ^ h>>16
}

// text appends CBOR's head of a short text, and the text.
func text(to []byte, s string) []byte {
	switch {
	case len(s) < 24:
		to = append(to, 0x60|byte(len(s)))
	case len(s) < 256:
		to = append(to, 0x78, byte(len(s)))
	default:
		to = append(to, 0x79, byte(len(s)>>8), byte(len(s)))
	}
	return append(to, s...)
}

func (r *Rule) holds(context map[string]any) bool {
	for i := range r.Conditions {
		value, _ := context[r.Conditions[i].Attribute].(string)
		if !r.Conditions[i].Values[value] {
			return false
		}
	}
	return true
}

func (s *Setting) evaluate(context map[string]any) Answer {
	variant, reason := s.Default, "STATIC"
	if len(s.Rules) > 0 {
		reason = "DEFAULT"
	}
	for i := range s.Rules {
		rule := &s.Rules[i]
		if !rule.holds(context) {
			continue
		}
		variant, reason = rule.Serve, "TARGETING_MATCH"
		if len(rule.Split) > 0 {
			user, _ := context["targetingKey"].(string)
			var room [128]byte
			hash := uint64(murmur3(text(text(append(room[:0], 0x82), s.Key), user)))
			total := rule.Split[len(rule.Split)-1].End
			for _, arm := range rule.Split {
				if hash*total>>32 < arm.End {
					variant = arm.Variant
					break
				}
			}
		}
		break
	}
	return Answer{s.Key, reason, variant, s.Variants[variant], s.metadata}
}

func fail(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	if status == 401 {
		w.Header().Set("WWW-Authenticate", `Bearer realm="holdfast"`)
	}
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errorCode":"GENERAL","errorDetails":%q}`, code)
}

func evaluate(w http.ResponseWriter, r *http.Request, service, key string) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	var ask Ask
	if err != nil || json.Unmarshal(body, &ask) != nil {
		fail(w, 400, "no context")
		return
	}
	var answer []byte
	if key == "" {
		settings := services[service]
		bulk := Bulk{make([]Answer, len(settings))}
		for i, setting := range settings {
			bulk.Flags[i] = setting.evaluate(ask.Context)
		}
		answer, err = json.Marshal(&bulk)
		w.Header().Set("ETag", fmt.Sprintf("%q", fmt.Sprint(maphash.Bytes(seed, answer))))
	} else if setting := byKey[service][key]; setting != nil {
		one := setting.evaluate(ask.Context)
		answer, err = json.Marshal(&one)
	} else {
		fail(w, 404, "no such setting")
		return
	}
	if err != nil {
		fail(w, 500, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(answer)
}

func handle(w http.ResponseWriter, r *http.Request) {
	if !tokens[r.Header.Get("Authorization")] {
		fail(w, 401, "no valid token")
		return
	}
	parts := strings.Split(r.URL.Path, "/") // "", environment, service, …
	switch {
	case len(parts) == 4 && parts[3] == "snapshot":
		w.Header().Set("ETag", etag)
		if r.Header.Get("If-None-Match") == etag {
			w.WriteHeader(304)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(snapshot)
	case len(parts) >= 7 && parts[3] == "ofrep" && r.Method == "POST":
		evaluate(w, r, parts[2], strings.Join(parts[7:], "/"))
	default:
		fail(w, 404, "no such route")
	}
}

func main() {
	var world World
	text, err := os.ReadFile(os.Args[2])
	if err == nil {
		err = json.Unmarshal(text, &world)
	}
	if err == nil {
		snapshot, err = os.ReadFile(os.Args[3])
	}
	if err != nil {
		log.Fatal(err)
	}
	tokens["Bearer "+world.Token] = true
	services = world.Services
	for name, settings := range services {
		byKey[name] = map[string]*Setting{}
		for _, setting := range settings {
			json.Unmarshal(setting.Metadata, &setting.metadata)
			byKey[name][setting.Key] = setting
		}
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], http.HandlerFunc(handle)))
}
