package static

import (
	"time"

	"wstunnel/internal/reactor"
)

// recency is how long a file is known by its name, at most.
const recency = time.Second

// Recent are files that a loop has found within the last second. They are not looked for again: an other file of the same name is seen when that
// second is over, a change of the file itself, or its end, at once.
// What they take besides descriptors is ShortMost bytes each. They belong to the loop.
type Recent struct {
	loop  *reactor.Loop
	most  int // each takes a descriptor
	named map[Variant]*recentFile
	timer reactor.Timer
}

// ShortMost is the longest file that is kept in memory while it is asked for: an answer so long leaves together with its head, through the process.
const ShortMost = 15 << 10

// NewRecent returns room for so many files that a loop has found.
func NewRecent(loop *reactor.Loop, most int) *Recent {
	return &Recent{loop: loop, most: most, named: map[Variant]*recentFile{}}
}

// recentFile is a file that may be sent to several clients.
type recentFile struct {
	file  *reactor.File
	info  reactor.FileInfo
	rep   Representation // its tag is empty before it is known
	users int
	known bool // by its name

	reads   int
	content []byte // of a short file that was read twice
}

// find returns a file that was found a moment ago, for one more user, or nil.
func (r *Recent) find(v Variant) *recentFile {
	f := r.named[v]
	if f == nil {
		return nil
	}
	if info, err := f.file.Stat(); err != nil || info != f.info {
		delete(r.named, v)
		f.forget()
		return nil
	}
	f.users++
	return f
}

// add makes a file known that was just found, and returns it for its first user; nil if there are enough.
func (r *Recent) add(v Variant, file *reactor.File, info reactor.FileInfo) *recentFile {
	if len(r.named) >= r.most {
		return nil
	}
	if len(r.named) == 0 {
		r.timer.On = r
		r.loop.Set(&r.timer, recency)
	}
	f := &recentFile{file: file, info: info, users: 1, known: true}
	r.named[v] = f
	return f
}

// Expired forgets all.
func (r *Recent) Expired() {
	for _, f := range r.named {
		f.forget()
	}
	clear(r.named)
}

// End forgets all, and gets to know none any more.
func (r *Recent) End() {
	r.most = 0
	r.Expired()
}

// forget makes the file unknown, and closes it behind its last user.
func (f *recentFile) forget() {
	f.known = false
	f.closeUnused()
}

// readNow returns what there is at an offset, up to len(p), in p or elsewhere.
func (f *recentFile) readNow(p []byte, offset int64) ([]byte, error) {
	if f.reads++; f.reads == 2 && f.info.Size <= ShortMost {
		content := make([]byte, f.info.Size)
		if n, err := f.file.ReadNow(content, 0); err == nil && n == len(content) {
			f.content = content
		}
	}
	if offset < int64(len(f.content)) {
		rest := f.content[offset:]
		return rest[:min(len(rest), len(p))], nil
	}
	n, err := f.file.ReadNow(p, offset)
	return p[:n], err
}

// release takes a user away.
func (f *recentFile) release() {
	f.users--
	f.closeUnused()
}

func (f *recentFile) closeUnused() {
	if f.users == 0 && !f.known {
		f.file.Close()
	}
}
