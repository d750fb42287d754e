#!/bin/sh
# Apptainer: binds what the machine has mounted; nothing else is needed. The newest revision, and a tag of the same
# repository if its publisher has CVMFS_VIRTUAL_DIR=true.
set -eu
repository=${1:-myapps.example.com}
tag=${2:-trunk-previous}
image=${IMAGE:-docker://debian:stable-slim}

ls "/cvmfs/$repository" >/dev/null # has automount mount it before it is bound
apptainer exec --bind "/cvmfs/$repository:/myapps:ro" "$image" ls /myapps
apptainer exec --bind "/cvmfs/$repository/.cvmfs/snapshots/$tag:/myapps:ro" "$image" ls /myapps
