#!/usr/bin/env bash
# An arm64 Python with both runtimes, and the qemu that runs it, unpacked into FOLDER, which must
# not exist; nothing is installed. 80 MB to download. Needs apt (Debian), pip, and
# the mirrors of both.
#
#     install_arm64.sh FOLDER PYTHON_WITH_PIP
#     FOLDER/python PROGRAM
set -euo pipefail
python=$2
mkdir -p "$(dirname "$1")"
mkdir "$1"
cd "$1"
here=$PWD

# A state of its own, so that the machine's own list of packages stays as it is. Debian 13, because
# the qemu of Debian 12 shows both runtimes the x86 /proc/cpuinfo, and they crash.
mkdir -p apt/lists/partial apt/archives/partial root site-packages
touch apt/status
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keyring] http://deb.debian.org/debian trixie main" > apt/sources.list
apt=(apt-get -qq -o Dir::Etc::sourcelist="$here/apt/sources.list" -o Dir::Etc::sourceparts=-
     -o Dir::State::lists="$here/apt/lists" -o Dir::State::status="$here/apt/status"
     -o Dir::Cache="$here/apt" -o Debug::NoLocking=1 -o APT::Sandbox::User=root
     -o APT::Architectures::=amd64 -o APT::Architectures::=arm64)
"${apt[@]}" update
"${apt[@]}" install --yes --download-only --no-install-recommends \
    python3.13-minimal:arm64 libpython3.13-stdlib:arm64 libstdc++6:arm64
for package in apt/archives/*_arm64.deb; do dpkg -x "$package" root; done
(cd apt && "${apt[@]}" download qemu-user:amd64 && dpkg -x qemu-user_*_amd64.deb qemu)
mv apt/qemu/usr/bin/qemu-aarch64 .
rm -r apt
# Debian's base-files, which is not unpacked, would bring this link; the loader is at /lib.
ln -s usr/lib root/lib

"$python" -m pip install --quiet --disable-pip-version-check --target site-packages \
    --python-version 3.13 --only-binary=:all: --platform manylinux_2_28_aarch64 \
    --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 \
    ai-edge-litert==2.3.0 onnxruntime==1.32.0 numpy==2.4.6

# Last: what is here is whole.
cat > python <<END
#!/bin/sh
export PYTHONPATH=$here/site-packages
exec $here/qemu-aarch64 -cpu cortex-a76 -L $here/root $here/root/usr/bin/python3.13 "\$@"
END
chmod +x python
