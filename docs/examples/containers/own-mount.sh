#!/bin/sh
# An ordinary user's own mount of a tag, for a rootless engine on a machine whose administrator mounts nothing:
#   own-mount.sh REPOSITORY TAG DIRECTORY
# Needs fusermount3. Root in the container is that user, and may read; other users in the container may not.
set -eu
repository=$1
tag=$2
directory=$3
place=${XDG_CACHE_HOME:-$HOME/.cache}/cvmfs

mkdir -p "$place" "$directory"
cat >"$place/$repository.override" <<EOF
CVMFS_REPOSITORY_TAG=$tag
CVMFS_CACHE_BASE=$place
CVMFS_CACHE_DIR=
CVMFS_SHARED_CACHE=yes
EOF
cvmfs2 -o "override=$place/$repository.override" "$repository" "$directory"
echo "docker run -v $directory:/myapps:ro ... ; afterwards: fusermount3 -u $directory"
