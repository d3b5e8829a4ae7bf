#!/usr/bin/env bash
# make image: builds the server's image by Debian's buildah, as root, and prints its size.
# usage: deploy/image.sh NAME [RUNTIMES]; RUNTIMES is what the Dockerfile takes, all four where it is not given.
#
# Where the Dockerfile's base cannot be pulled, one is made of Debian's packages and gets its name: the same Debian, with
# the Python of bookworm. It differs from the real one in Python's last digit, and has neither distutils nor ensurepip.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 1 ] && [ $# -le 2 ] || { echo "usage: deploy/image.sh NAME [RUNTIMES]" >&2 && exit 2; }
[ "$(id -u)" = 0 ] || { echo "got user $(id -un), expected root, which buildah needs to build and to run images" >&2 && exit 2; }
export BUILDAH_ISOLATION=chroot DEBIAN_FRONTEND=noninteractive

if ! { command -v buildah && command -v mmdebstrap; } >/dev/null; then
    echo "fetching Debian's buildah and mmdebstrap" >&2
    apt-get -qq update
    apt-get -qq install --no-install-recommends -y buildah mmdebstrap ca-certificates >/dev/null
fi

base=$(sed -n 's/^FROM \(python:\S*\).*/\1/p' deploy/Dockerfile)
stand_in() {
    local version=${base#python:} release=${base##*-} mirror folder container
    version=${version%%-*}
    mirror=$(apt-get indextargets --format '$(SITE)' 'Origin: Debian' 'Label: Debian' | head -n 1)
    folder=$(mktemp -d)
    trap "rm -rf '$folder'" EXIT
    echo "no registry has $base for this machine: making a stand-in of Debian's packages" >&2
    mmdebstrap --quiet --variant=minbase --include="python$version,python3-pip-whl,ca-certificates,netbase,tzdata" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook="chroot \"\$1\" python$version -m venv --without-pip /usr/local" \
        --customize-hook='chroot "$1" sh -c "PYTHONPATH=\$(echo /usr/share/python-wheels/pip-*.whl) \
            python -m pip --isolated install --no-index --find-links /usr/share/python-wheels pip"' \
        "$release" "$folder/root.tar" "deb $mirror $release main" "deb $mirror bookworm main" >&2
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$folder/root.tar" / >/dev/null
    buildah config --env PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin --env LANG=C.UTF-8 "$container"
    buildah commit --quiet --rm "$container" "docker.io/library/$base" >/dev/null
}
buildah inspect --type image "$base" >/dev/null 2>&1 || buildah pull --quiet "$base" >&2 || stand_in

# pip uses in the build what it uses here: indexes, links, and whom it trusts. What lies on this machine is mounted.
arguments=(--volume /etc/ssl/certs:/etc/ssl/certs:ro)
for name in index-url extra-index-url find-links; do
    variable=PIP_$(tr a-z- A-Z_ <<<"$name")
    value=${!variable-$(python3 -m pip config get "global.$name" 2>/dev/null || true)}
    [ -z "$value" ] || arguments+=(--build-arg "$variable=$value")
    for source in $value; do
        case $source in
            file://*) folder=$(dirname "${source#file://}") ;; # an index; its files lie beside it
            /*) folder=$source ;;
            *) continue ;;
        esac
        arguments+=(--volume "$folder:$folder:ro")
    done
done
[ $# = 1 ] || arguments+=(--build-arg "RUNTIMES=$2")

SECONDS=0
buildah bud --no-cache --force-rm --format docker --pull-never --file deploy/Dockerfile --tag "$1" "${arguments[@]}" . >&2
echo "$1: $(buildah images --format '{{.Size}}' "$1"), built in $SECONDS s"
