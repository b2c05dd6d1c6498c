#!/usr/bin/env bash
# Makes sample.webm, the film that the demo plays: an onion that grows, to a slow chord.
#
# WebM with VP9 and Opus, because every Chromium and Firefox plays it, also those built without
# licensed codecs; the index in front, so that a reader finds any second from the first chunks.
# Needs ffmpeg (with libvpx and libopus) and the font DejaVu. The result is committed, since other
# versions of the encoders make other bytes, which is another torrent.
set -euo pipefail
cd "$(dirname "$0")"

seconds=40 fps=24 size=640x360
passes=$(mktemp -d)
trap 'rm -rf "$passes"' EXIT

# Per pixel, kept in ld(n): 0 how far from the heart, the angle leaning the rings like a bulb's
# skins; 1 the skin's light; 2 whether the onion has grown so far; 3 a line that shows the time.
# It is soft enough to be drawn at half the size.
shape="st(0,hypot((X-160)*(1+0.10*sin(T/5)),(Y-93)*1.12));\
st(1,0.5+0.5*sin((ld(0)+3.5*sin(3*atan2(Y-93,X-160)+T/2))/5-1.1*T));\
st(2,clip((17+T*2.3-ld(0))/7,0,1));\
st(3,between(Y,175,176)*lt(X,320*T/$seconds))"
rings="format=gbrp,geq=\
r='$shape;min(255,max(255*ld(3),12+ld(2)*(70+140*ld(1)*(0.65+0.35*sin(T/4)))+10*Y/180))':\
g='$shape;min(255,max(220*ld(3),16+ld(2)*(44+140*ld(1)*(0.62-0.35*sin(T/4)))+14*(1-Y/180)))':\
b='$shape;min(255,max(240*ld(3),30+ld(2)*(84+110*ld(1))+26*(1-Y/180)))',scale=$size:flags=bicubic"
font=/usr/share/fonts/truetype/dejavu
title="drawtext=fontfile=$font/DejaVuSerif-Bold.ttf:text='Chive':fontsize=84:fontcolor=white:\
x=(w-tw)/2:y=(h-th)/2-4:alpha='clip((t-1)/2,0,1)*clip((9-t)/2,0,1)':shadowx=2:shadowy=2"
subtitle="drawtext=fontfile=$font/DejaVuSans-ExtraLight.ttf:text='an onion that grows in your window':\
fontsize=22:fontcolor=white:x=(w-tw)/2:y=h/2+54:alpha='clip((t-2)/2,0,1)*clip((9-t)/2,0,1)'"
clock="drawtext=fontfile=$font/DejaVuSansMono.ttf:text='%{pts\:hms}':fontsize=14:fontcolor=white@0.7:\
x=w-tw-14:y=14"
picture="$rings,format=yuv420p,$title,$subtitle,$clock"
# A minor ninth on A, each tone swelling at its own pace.
tone() { echo "0.11*sin(2*PI*$1*t)*(0.55+0.45*sin(2*PI*t/$2))"; }
fade="min(1,min(t/2,($seconds-t)/3))"
chord="aevalsrc=exprs='$fade*($(tone 110 9)+$(tone 164.81 7)+$(tone 261.63 5))\
|$fade*($(tone 110 11)+$(tone 196 6)+$(tone 246.94 4))':s=48000:d=$seconds"

ffmpeg -hide_banner -loglevel error -y -f lavfi -i "color=black:s=320x180:r=$fps:d=$seconds,$picture" \
    -c:v ffv1 "$passes/picture.mkv"
encode() {
    ffmpeg -hide_banner -loglevel error -y -i "$passes/picture.mkv" -f lavfi -i "$chord" \
        -c:v libvpx-vp9 -b:v 0 -crf 36 -row-mt 1 -g 72 -pix_fmt yuv420p \
        -pass "$1" -passlogfile "$passes/pass" "${@:2}"
}
encode 1 -an -speed 4 -f null /dev/null
encode 2 -speed 2 -c:a libopus -b:a 64k -fflags +bitexact -flags:v +bitexact -flags:a +bitexact \
    -metadata title=Chive -cues_to_front 1 sample.webm
ls -l sample.webm
sha256sum sample.webm
