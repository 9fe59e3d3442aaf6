package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"strings"

	"wstunnel/internal/head"
	"wstunnel/internal/route"
)

// Fields by which an application has the front end do something. They never go on.
const (
	accelPrefix   = "X-Accel-" // nginx's: Redirect, Expires, Limit-Rate, Buffering, Charset
	accelRedirect = "X-Accel-Redirect"
	sendfile      = "X-Sendfile"
)

// withoutOrders returns the fields of an application's answer that are for the client.
func withoutOrders(fields head.Fields) head.Fields {
	kept := fields[:0]
	for _, f := range fields {
		if !isOrder(&f) {
			kept = append(kept, f)
		}
	}
	return kept
}

func isOrder(f *head.Field) bool {
	return f.ID == head.Other && (len(f.Name) > len(accelPrefix) && strings.EqualFold(f.Name[:len(accelPrefix)], accelPrefix) || strings.EqualFold(f.Name, sendfile))
}

// namedFile returns the file that an application wants sent instead of its answer, if it names one: by a path of the site (X-Accel-Redirect), which may be one
// that clients may not ask for, or by its name (X-Sendfile), below a directory of the site. It is named below the directory of the location that is returned.
func (x *exchange) namedFile(fields head.Fields) (at *location, name string, err error) {
	if target, ok := fields.Lookup(accelRedirect); ok {
		if at, name, err = x.fileByPath(target); err != nil {
			err = fmt.Errorf("%s %s: %w", accelRedirect, head.Quoted(target), err)
		}
	} else if file, ok := fields.Lookup(sendfile); ok {
		if at, name, err = x.fileByName(file); err != nil {
			err = fmt.Errorf("%s %s: %w", sendfile, head.Quoted(file), err)
		}
	}
	if _, isScript := cutScript(name, name); isScript && err == nil {
		err = fmt.Errorf("an application wants the source of %s sent", head.Quoted(name))
	}
	return at, cmp.Or(name, "."), err
}

var errNotBelow = errors.New("it lies below no directory of the site")

func (x *exchange) fileByPath(target string) (at *location, name string, err error) {
	raw, _ := route.Split(target)
	normal, err := route.Normalise(raw)
	if err != nil {
		return nil, "", err
	}
	l, _, err := x.site.locations.Find(normal, x.wanted)
	if err != nil || l == nil || l.Directory() == "" {
		return nil, "", cmp.Or(err, errNotBelow)
	}
	return l, l.below(normal), nil
}

func (x *exchange) fileByName(name string) (at *location, below string, err error) {
	clean := path.Clean(name)
	for _, l := range x.site.all {
		dir := l.Directory()
		if below, ok := strings.CutPrefix(clean, strings.TrimSuffix(dir, "/")+"/"); ok && dir != "" {
			return l, below, nil
		}
	}
	return nil, "", errNotBelow
}

// aboutFile are the fields that an application may say of a file that it names: those that nginx lets it.
var aboutFile = head.SetOf(head.ContentType, head.SetCookie, head.CacheControl)

func isAboutFile(f *head.Field) bool {
	return aboutFile.Has(f.ID) || strings.EqualFold(f.Name, "Content-Disposition") || strings.EqualFold(f.Name, "Expires")
}

// sayOf puts what an application has said of a file over what the file says of itself. An empty type is none.
func sayOf(fields, said head.Fields) head.Fields {
	for i := range said {
		f := &said[i]
		if !isAboutFile(f) || f.Value == "" {
			continue
		}
		if f.ID != head.ContentType {
			fields = append(fields, *f)
			continue
		}
		for j := range fields {
			if fields[j].ID == head.ContentType && !strings.HasPrefix(fields[j].Value, "multipart/byteranges") {
				fields[j].Value = f.Value
			}
		}
	}
	return fields
}
