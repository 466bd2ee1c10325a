// Reads an OCI spec and prints it under Docker's default seccomp profile, as Docker's own code makes it of the spec.
package main

import (
	"encoding/json"
	"log"
	"os"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func main() {
	var spec specs.Spec
	if err := json.NewDecoder(os.Stdin).Decode(&spec); err != nil {
		log.Fatal(err)
	}
	profile, err := seccomp.GetDefaultProfile(&spec)
	if err != nil {
		log.Fatal(err)
	}
	spec.Linux.Seccomp = profile
	if err := json.NewEncoder(os.Stdout).Encode(spec); err != nil {
		log.Fatal(err)
	}
}
