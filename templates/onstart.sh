#!/bin/bash
# What a rented machine runs at EVERY start of its container. llmhost.onstart.render puts the values of L_… in front, leaves out the parts
# between `# [NAME` and `# NAME]` that are not wanted, and takes out the comments: 4,000 bytes are all there is (vast facts §0.7). bash,
# because that is what the marketplace runs it with. No secret is in it, nothing is written outside of the home, and its output, which
# is the container's log, has markers that llmhost.onstart.phases reads.
umask 077
HOME=${HOME:-~}
export HOME
cd || exit
at=$HOME/$L_DIR
phase() { echo "LLMHOST-PHASE $*"; }
phase begun

# Our key, once, and nothing that sshd would refuse it for.
mkdir -p .ssh .llmhost/guard
chmod go-w .
chmod 700 .ssh
keys=.ssh/authorized_keys
touch $keys .no_auto_tmux
chmod 600 $keys
grep -qxF -e "$L_KEY" $keys || printf '\n%s\n' "$L_KEY" >>$keys

# `boot` is when the guard began to count. `ends` is written once, so that what `extend` makes of it outlives a restart. A restart counts
# anew only if the operator was here since the last one: else a container that restarts again and again would live for ever, and one that
# was stopped for a day would end before anybody can reach it.
cd .llmhost/guard || exit
if [ ! -e boot ]; then
  [ -e ends ] || [ -z "$L_ENDS" ] || echo "$L_ENDS" >ends
  touch contact active boot
fi
[ contact -nt boot ] && touch boot

# METHOD [MORE]: the HTTP status of a call about this very instance, with the container's own key, which curl gets on its standard input.
url=$L_API/api/v0/instances/${CONTAINER_ID:=${VAST_CONTAINERLABEL#C.}}/
api() {
  printf 'header = "Authorization: Bearer %s"\n' "$CONTAINER_API_KEY" |
    curl -q -sm 30 -K - -o /dev/null -w '%{http_code}' -H 'Content-Type: application/json' -X "$@" "$url"
}
command -v curl >/dev/null || api() {
  python3 -c 'import sys,urllib.request as u
m,l,k=sys.argv[1],sys.argv[2],input()
try:print(u.urlopen(u.Request(l,b"{}"if m<"E"else None,{"Authorization":"Bearer "+k,"Content-Type":"application/json"},method=m),timeout=30).status)
except OSError as e:print(e)' "$1" "$url" <<<"$CONTAINER_API_KEY"
}

# The dead-man switch. A file that is gone counts as made when the guard began, an end that is no full time of day as none.
tell() {
  [ "$*" = "$told" ] || echo "LLMHOST-GUARD $*"
  told=$*
  echo "$*" >state
}
age() {
  made=$(stat -c %Y "$1" || date -r "$1" +%s)
  echo $((now - ${made:-$begun}))
}
past() { [ "$2" ] && [ "$(age "$1")" -ge "$2" ] && [ "$(age boot)" -ge "$2" ]; }
guard() {
  trap '' HUP PIPE
  begun=$(date +%s)
  # The newest is the one: an older guard finds another's number, and ends. On a full disk there is none to be found.
  me=$BASHPID
  echo "$me" >pid
  while pid=$(cat pid); [ "${pid:-$me}" = "$me" ]; do
    if [ "$ok" != 200 ]; then
      ok=$(api GET)
      if [ "$ok" = 200 ]; then tell ok; else tell "failed $ok"; fi
    fi
    now=$(date +%s) why='' ends=$(cat ends)
    past active "$L_IDLE" && why=idle
    past contact "$L_CONTACT" && why=contact
    ends=${ends%%.*}
    [ ${#ends} -gt 9 ] && [ "$now" -ge "$ends" ] && why=ends
    # Again and again, until this container is no more.
    [ "$why" ] && tell "$why $(api DELETE -d '{}')"
    sleep "$L_EVERY"
  done
}
# Job control, so that it is in a process group of its own.
set -m
guard </dev/null 2>/dev/null &
set +m
unset CONTAINER_API_KEY
cd || exit

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
  cat /proc/$BASHPID/stat >early
  PATH=$PATH:$PWD/ollama/bin:$PWD/ollama
  # The lock is install-ollama.sh's; the bootstrap waits for one that is marked as ours.
  lock=$PWD/ollama.lock
  if ! command -v ollama >/dev/null; then
    mkdir "$lock" || ! kill -0 "$(cat "$lock/pid")" || exit
    echo $BASHPID | tee "$lock/onstart" >"$lock/pid"
    phase ollama
    export LLMHOST_OLLAMA_DIR=$PWD/ollama LLMHOST_PYTHON=python3
    (eval "$L_INSTALL")
    rm -r "$lock"
  fi
  command -v ollama >/dev/null || { phase ollama-later; exit; }
  [ "$L_MODEL" ] || exit
  phase pull
  models=$HOME/.ollama/models
  [ -w "$models" ] || models=$PWD/models
  export HOME=$PWD/home OLLAMA_MODELS=$models
  eval "export $L_SET OLLAMA_NOPRUNE=1 OLLAMA_HOST=127.0.0.1:$((20000 + CONTAINER_ID % 9999))"
  ollama serve &>early.log &
  for _ in {1..30}; do
    sleep 2
    ollama pull "$L_MODEL" &>/dev/null && phase pulled && break
  done
  kill $!
}
# [fetch
fetch() {
  set -o pipefail
  case $(uname -m) in a*64) arch=arm64 ;; *) arch=amd64 ;; esac
  new=$PWD/ollama.new
  rm -rf "$new"
  mkdir "$new"
  curl -fsL "$L_SITE/ollama-linux-$arch.tar.zst?version=$OLLAMA_VERSION" | zstd -d | tar -xf - -C "$new" && mv "$new" ollama
}
# fetch]
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
