#!/bin/busybox sh
# wget for the test image: `wget [-q] [-O -] [-T SECONDS] http://HOST[:PORT][/PATH]`, body to standard output.
# Debian's static busybox has a wget that crashes when it looks up a service name; its nc does not.
seconds=10
while [ $# -gt 1 ]; do
  case $1 in -T) seconds=$2; shift ;; esac
  shift
done
rest=${1#http://}
host=${rest%%/*}
path=/${rest#"$host"}
port=80
case $host in *:*) port=${host##*:} host=${host%:*} ;; esac
set -o pipefail
printf 'GET /%s HTTP/1.0\r\nHost: %s\r\nConnection: close\r\n\r\n' "${path#//}" "$host" |
  nc -w "$seconds" "$host" "$port" |
  { read -r _ status _ && sed '1,/^\r*$/d' && [ "$status" -lt 400 ]; }
