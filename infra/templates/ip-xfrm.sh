#!/bin/sh
# Security associations by hand on a leased address (bare `ip xfrm`): a template of the agent's (`templates` in its
# configuration).
#
#   ip-xfrm.sh NUMBER PEER SPI-OF-PEER KEY-IN KEY-OUT
#
# NUMBER, from 0, names the association: its SPI is that of the lease at that place. A rekey takes the next number, and
# `ip xfrm state delete` the old one when the peer sends under the new one. Keys: AES-GCM, 0x and 40 digits.
set -eu
address={{address}}
first=$(({{spis.first}}))
last=$(({{spis.last}}))

number=$1 peer=$2 spi_of_peer=$3 key_in=$4 key_out=$5
spi=$((first + number))
if [ "$spi" -gt "$last" ]; then
  echo "the lease has SPIs for the numbers 0 to $((last - first))" >&2
  exit 1
fi
ip xfrm state add src "$peer" dst "$address" proto esp spi "$spi" mode tunnel aead 'rfc4106(gcm(aes))' "$key_in" 128 replay-window 128
ip xfrm state add src "$address" dst "$peer" proto esp spi "$spi_of_peer" mode tunnel aead 'rfc4106(gcm(aes))' "$key_out" 128
