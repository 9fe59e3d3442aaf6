package processes

import (
	"encoding/json"
	"time"

	"wstunnel/internal/admin"
	"wstunnel/internal/history"
)

// What can be asked of another process.
const (
	doList   = "list"
	doCount  = "count"
	doCounts = "counts"
	doHour   = "hour"
	doTunnel = "tunnel"
	doKick   = "kick"
	doJoin   = "join"
	doLeave  = "leave"
	doPush   = "push"
	doPushTo = "push_to"
	doWatch  = "watch"
)

// call is what is asked: one value of JSON, with which a connection begins. Both ends are processes of one server, perhaps of different versions: what one does not
// know of the other's fields it leaves out.
type call struct {
	Do       string         `json:"do"`
	Until    time.Time      `json:"until,omitzero"` // when nobody waits for it any more
	ID       string         `json:"id,omitempty"`
	Filter   admin.Filter   `json:"filter,omitzero"`
	Among    []string       `json:"among"` // null for all sites
	Audience admin.Audience `json:"audience,omitzero"`
	Message  admin.Message  `json:"message,omitzero"`
	Group    string         `json:"group,omitempty"`
	Code     uint16         `json:"code,omitempty"`
	Reason   string         `json:"reason,omitempty"`
}

// answer is what comes back: one, or, to one who watches, one after the other until the connection ends.
type answer struct {
	Status int                       `json:"status,omitempty"` // of what kept it from being done
	Error  string                    `json:"error,omitempty"`
	Page   admin.Page                `json:"page,omitzero"`
	Count  int                       `json:"count,omitempty"`
	Counts map[string]history.Counts `json:"counts,omitempty"`
	Hour   json.RawMessage           `json:"hour,omitempty"`
	Tunnel admin.Tunnel              `json:"tunnel,omitzero"`
	Pushed admin.Pushed              `json:"pushed,omitzero"`
	Missed int                       `json:"missed,omitempty"`
	Events []admin.Event             `json:"events,omitempty"`
}

// patience is how long another process may take for what needs no waiting for peers.
const patience = 5 * time.Second
