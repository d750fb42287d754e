#!/bin/sh
# Podman, as root or not: binds what the machine has mounted. The newest revision, and a tag of the same repository if its
# publisher has CVMFS_VIRTUAL_DIR=true.
set -eu
repository=${1:-myapps.example.com}
tag=${2:-trunk-previous}
image=${IMAGE:-docker.io/library/debian:stable-slim}

ls "/cvmfs/$repository" >/dev/null # has automount mount it before it is bound
podman run --rm -v "/cvmfs/$repository:/myapps:ro,rslave" "$image" ls /myapps
podman run --rm -v "/cvmfs/$repository/.cvmfs/snapshots/$tag:/myapps:ro,rslave" "$image" ls /myapps
