// Package leaks finds goroutines that tests leave behind.
package leaks

import (
	"time"

	"go.uber.org/goleak"
)

// patience is how long goroutines may take to end: on a busy machine longer than the half second that goleak waits.
const patience = 10 * time.Second

// Verify runs the tests of a package and ends the process. Tests that passed have failed all the same where a goroutine is left ten seconds later;
// it is printed.
func Verify(m goleak.TestingM) { goleak.VerifyTestMain(settled{m}) }

// settled are tests of which the last has left nothing, be it a little later.
type settled struct{ goleak.TestingM }

func (s settled) Run() (code int) {
	code = s.TestingM.Run()
	for end := time.Now().Add(patience); code == 0 && goleak.Find() != nil && time.Now().Before(end); {
	}
	return code
}
