package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// tokenBytes is how much chance is in a token: 256 bits.
const tokenBytes = 32

func newTokenCommand(stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:   "token",
		Short: "Make a token for admin.address",
		Long: `Token prints a new random token, and the hash by which the configuration knows it (admin.tokens).
Programs ask with Authorization: Bearer TOKEN. It is kept nowhere.`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			secret := make([]byte, tokenBytes)
			rand.Read(secret) // which never fails
			token := base64.RawURLEncoding.EncodeToString(secret)
			_, err := fmt.Fprintf(stdout, "token: %s\nhash: sha256:%x\n", token, sha256.Sum256([]byte(token)))
			return err
		},
	}
}
