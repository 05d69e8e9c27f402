package kuberay

import (
	"encoding/json"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
)

// Request is what a RayService was asked for last: the value of the annotation raytls.io/restarted-for.
type Request struct {
	// For identifies what was asked for.
	For string `json:"for"`
	// Goal is what the new cluster was asked to be.
	Goal v1alpha1.RolloutGoal `json:"goal"`
	// At is when.
	At time.Time `json:"at"`
}

// ParseRequest reads what Request.String wrote. Of what somebody else wrote it makes the empty request.
func ParseRequest(text string) Request {
	var r Request
	if json.Unmarshal([]byte(text), &r) != nil {
		return Request{}
	}
	// As a record keeps it: a time that is zero there could not be written.
	r.At = r.At.UTC().Truncate(time.Second)
	if r.For == "" || r.At.Year() < 2000 {
		return Request{}
	}
	return r
}

// String is the request as JSON.
func (r Request) String() string {
	text, err := json.Marshal(r)
	if err != nil { // no field of it can fail to encode
		panic(err)
	}
	return string(text)
}
