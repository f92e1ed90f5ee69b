#!/bin/bash
# What a rented machine runs at EVERY start of its container. llmhost.onstart.render puts the values of L_… in front, leaves out the parts
# between `# [NAME` and `# NAME]` that are not wanted, and takes out the comments: 4,000 bytes are all there is (vast facts §0.7). bash,
# because that is what the marketplace runs it with. No secret is in it, nothing is written outside of the home, and its output, which
# is the container's log, has markers that llmhost.onstart.phases reads. The part `python` is left out when there is no room for it.
# Whatever cannot be written (a full disk), the dead-man switch at least must start: so nothing of this ends the script.
umask 077
export HOME=${HOME:-~}
cd || :
at=$HOME/$L_DIR
phase() { echo "LLMHOST-PHASE $*"; }
phase begun

# Our key, once, and nothing that sshd would refuse it for.
mkdir -p .ssh .llmhost/guard
chmod go-w .
chmod 700 .ssh
file=.ssh/authorized_keys
touch $file .no_auto_tmux
chmod 600 $file
grep -qxF -e "$L_KEY" $file || printf '\n%s\n' "$L_KEY" >>$file

# `boot` is when the guard began to count. `ends` is written once, so that what `extend` makes of it outlives a restart. A restart counts
# anew only if the operator was here since the last one: else a container that restarts again and again would live for ever, and one that
# was stopped for a day would end before anybody can reach it.
cd .llmhost/guard || :
if [ ! -e boot ]; then
# [ends
  [ -s ends ] || echo "$L_ENDS" >ends
# ends]
  touch contact active boot
fi
[ contact -nt boot ] && touch boot

# METHOD [MORE]: the HTTP status of a call about this very instance, with the container's own key, which only standard input tells.
key=$CONTAINER_API_KEY
unset CONTAINER_API_KEY
url=$L_API/api/v0/instances/${CONTAINER_ID:=${VAST_CONTAINERLABEL#C.}}/
api() {
  echo "header=\"Authorization: Bearer $key\"" |
    curl -q -sm 30 -K - -o /dev/null -w '%{http_code}' -H 'Content-Type: application/json' -X "$@" "$url"
}
# [python
command -v curl >/dev/null || api() {
  echo "Bearer $key" | python3 -c 'import sys,urllib.request as u
_,m,*d,l=sys.argv
h={"Authorization":input(),"Content-Type":"application/json"}
try:print(u.urlopen(u.Request(l,b"{}"if d else None,h,method=m),timeout=30).status)
except OSError as e:print(e)' "$@" "$url"
}
# python]

# The dead-man switch. A file that is gone counts as made when the guard began, an end that is no full time of day as none. Where the clock
# was set, or the machine stood still, it counts anew: else one that is used would end, or one from the future never.
tell() {
  [ "$*" = "$told" ] || echo "LLMHOST-GUARD $*"
  told=$*
  echo "$*" >state
}
age() {
  made=$(stat -c %Y "$1" || date -r "$1" +%s)
  echo $((now - ${made:-$begun}))
}
past() { [ "$(age "$1")" -ge "$2" ] && [ "$(age boot)" -ge "$2" ] && why=$1; }
guard() {
  trap '' HUP PIPE
  begun=$(date +%s)
  # The newest is the one: an older guard finds another's number, and ends. On a full disk there is none to be found, and on one that can
  # be written no more perhaps an old one.
  me=$BASHPID
  echo "$me" >pid || me=$(cat pid)
  while pid=$(cat pid); [ "${pid:-$me}" = "$me" ]; do
    if [ "$ok" != 200 ]; then
      ok=$(api GET)
      if [ "$ok" = 200 ]; then tell ok; else tell "failed $ok"; fi
    fi
    now=$(date +%s) why='' ends=$(cat ends)
    if ((now < last || now > ${last:-$now} + L_EVERY + 99 || $(age boot) < 0)); then
      touch contact active boot
      begun=$now
    fi
    last=$now
# [idle
    past active "$L_IDLE"
# idle]
    past contact "$L_CONTACT"
    [ ${#ends} -gt 9 ] && [ "$now" -ge "${ends%%.*}" ] && why=ends
    # Again and again, until this container is no more.
    [ "$why" ] && tell "$why $(api DELETE -d '{}')"
    sleep "$L_EVERY"
  done
}
# Job control, so that it is in a process group of its own.
set -m
guard </dev/null 2>/dev/null &
set +m
cd || :

# Of the sshd that answers in this container, and so from no file: there may be keys of another one.
command -v ssh-keyscan >/dev/null && for _ in {1..30}; do
  ssh-keyscan -p 22 127.0.0.1 2>/dev/null | sed -n 's/^[^#][^ ]* /LLMHOST-HOSTKEY /p' | grep . && break
  sleep 2
done &

# [early
# Before anybody logs in: Ollama where the bootstrap over SSH will find it, and the model where the node's own Ollama will look for it. The
# server of this pull is not the one that serves later, for nobody would watch over it: it listens where the bootstrap does not look, and
# llmhost.node ends the whole group, which `early` tells of, before it starts its own. What was fetched stays, and the pull goes on there.
early() {
  trap '' HUP PIPE
  me=$BASHPID
  cat "/proc/$me/stat" >early
  to=$PWD/ollama
  PATH=$PATH:$to/bin:$to
  if ! command -v ollama >/dev/null; then
    # The lock is install-ollama.sh's; the bootstrap waits for one that is marked as ours.
    mkdir "$to.lock" || ! kill -0 "$(cat "$to.lock/pid")" || exit
    echo "$me" | tee "$to.lock/onstart" >"$to.lock/pid"
    phase ollama
# [fetch
    set -o pipefail
    arch=amd64
    [ "$(uname -m)" = x86_64 ] || arch=arm64
    rm -rf "$to.early"
    mkdir "$to.early"
    curl -fsL -y60 "$L_SITE/ollama-linux-$arch.tar.zst?version=$OLLAMA_VERSION" | zstd -d | tar -xf - -C "$to.early" &&
      mv "$to.early" "$to"
# fetch]
# [install
    export OLLAMA_VERSION LLMHOST_OLLAMA_DIR="$to" LLMHOST_PYTHON=python3
    sh -c "$L_INSTALL"
# install]
    rm -r "$to.lock"
    command -v ollama >/dev/null || { phase ollama-later; exit; }
  fi
# [pull
  phase pull
  models=$HOME/.ollama/models
  [ -w "$models" ] || models=$PWD/models
  export HOME=$PWD/home OLLAMA_MODELS=$models
  eval "export $L_SET OLLAMA_NOPRUNE=1 OLLAMA_HOST=127.0.0.1:$((20000 + CONTAINER_ID % 9999))"
  ollama serve &>early.log &
  for _ in {1..30}; do
    sleep 3
    ollama pull "${L_MODEL[@]}" &>/dev/null && phase pulled && break
  done
  kill $!
# pull]
}
# early]

if [ -e "$at/node.json" ]; then
  phase node
  python=$(cat "$at/state/python")
  PYTHONPATH=$at/current/lib "${python:-python3}" -P -m llmhost.node start --folder "$at" --wait 60 >/dev/null && phase node-up
# [early
elif mkdir -p "$at" && cd "$at"; then
  read -r pid _ <early
  set -m
  kill -0 "$pid" || early </dev/null 2>/dev/null &
# early]
fi
phase "done"
