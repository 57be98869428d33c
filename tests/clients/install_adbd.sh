#!/usr/bin/env bash
# The adbd of Debian 13, which runs on any Linux, unpacked into FOLDER, which must not exist; nothing
# is installed. 9 MB to download. Needs apt (Debian) and its mirror.
#
#     install_adbd.sh FOLDER
#     ADBD_PORT=5555 FOLDER/adbd
#
# It listens on all addresses and lets everybody in: give it a network of its own (unshare --net).
set -euo pipefail
mkdir -p "$(dirname "$1")"
mkdir "$1"
cd "$1"
here=$PWD

# A state of its own, so that the machine's own list of packages stays as it is.
mkdir -p apt/lists/partial apt/archives/partial root
touch apt/status
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keyring] http://deb.debian.org/debian trixie main" > apt/sources.list
apt=(apt-get -qq -o Dir::Etc::sourcelist="$here/apt/sources.list" -o Dir::Etc::sourceparts=-
     -o Dir::State::lists="$here/apt/lists" -o Dir::State::status="$here/apt/status"
     -o Dir::Cache="$here/apt" -o Debug::NoLocking=1 -o APT::Sandbox::User=root)
"${apt[@]}" update
# With its C library: this machine's may be older.
"${apt[@]}" install --yes --download-only --no-install-recommends adbd
for package in apt/archives/*.deb; do dpkg -x "$package" root; done
rm -r apt

# Last: what is here is whole.
library=$here/root/usr/lib/x86_64-linux-gnu
cat > adbd <<END
#!/bin/sh
exec $library/ld-linux-x86-64.so.2 \\
    --library-path $library:$library/android $here/root/usr/lib/android-sdk/platform-tools/adbd "\$@"
END
chmod +x adbd
