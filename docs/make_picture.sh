#!/usr/bin/env bash
# The README's picture, from a report: docs/make_picture.sh REPORT.html PICTURE.png
# Shows its title, results table and bars; the rest of the page is hidden by a style sheet.
# Needs Chromium (CHROMIUM says which) and Python with Pillow, on which this package depends.
set -euo pipefail
[ $# -eq 2 ] || { echo "usage: $0 REPORT.html PICTURE.png" >&2; exit 2; }
report=$1 picture=$2
[ -s "$report" ] || { echo "$0: got $report, expected a report. Run the quickstart." >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

{
  cat "$report"
  echo '<style>
    body { padding-top: 1rem }
    header .facts, header nav, footer, details, section:not(#results, #shifts) { display: none }
    #results > h3, #results > h3 ~ *, #shifts > .legend + .figures { display: none }
  </style>'
} >"$work/page.html"

# 1.5 pixels for each of the page: GitHub shows a README about 900 pixels wide.
"${CHROMIUM:-chromium}" --headless --no-sandbox --disable-gpu --hide-scrollbars \
  --user-data-dir="$work/profile" --force-device-scale-factor=1.5 --window-size=1040,3000 \
  --screenshot="$work/page.png" "file://$work/page.html" >"$work/log" 2>&1 ||
  { cat "$work/log" >&2; exit 1; }

python - "$work/page.png" "$picture" <<'PYTHON'
import sys

from PIL import Image, ImageChops

source, target = sys.argv[1:]
page = Image.open(source).convert("RGB")
ground = Image.new("RGB", page.size, page.getpixel((0, 0)))
_, _, _, bottom = ImageChops.difference(page, ground).getbbox()
page = page.crop((0, 0, page.width, bottom + 30))
# A page of few colours: with a palette the file is a third as large.
page.quantize(128, dither=Image.Dither.NONE).save(target, optimize=True)
PYTHON
echo "$picture: $(wc -c <"$picture") bytes"
