package migrate

import "slices"

// scope is a level of nginx's configuration: what a section says, over what the ones around it say.
type scope struct {
	above *scope
	own   []*directive
}

func (s *scope) within(block []*directive) *scope { return &scope{s, block} }

// here returns the directives of this level with one of the names.
func (s *scope) here(names ...string) (found []*directive) {
	for _, d := range s.own {
		if slices.Contains(names, d.name) {
			found = append(found, d)
		}
	}
	return found
}

// find returns the directive of the nearest level that has it, or nil.
func (s *scope) find(name string) *directive {
	if all := s.all(name); len(all) > 0 {
		return all[len(all)-1]
	}
	return nil
}

// all returns the directives with one of the names of the nearest level that has any.
func (s *scope) all(names ...string) []*directive {
	for ; s != nil; s = s.above {
		if found := s.here(names...); len(found) > 0 {
			return found
		}
	}
	return nil
}

// word returns the argument of a directive of the nearest level that has it.
func (s *scope) word(name, otherwise string) string {
	if d := s.find(name); d != nil && len(d.args) > 0 {
		return d.args[0]
	}
	return otherwise
}

func (s *scope) on(name string) bool { return s.word(name, "off") == "on" }
