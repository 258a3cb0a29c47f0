#!/usr/bin/env bash
# A tour of caffecompat on real images: database, training, test, resume, conversion, evaluation.
#
#   tools/quickstart.sh
#
# Takes about two minutes on two CPU cores once everything is installed. All it makes is in
# quickstart-run/ (made anew each time) and in the virtual environment .venv; the environment
# variables of tools/install.sh hold.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/install.sh quickstart,progress,opencv-headless
PATH=$(cd "${CAFFECOMPAT_VENV:-.venv}/bin" && pwd):$PATH
work=quickstart-run # the files in prototxt/ name it

step() {
    printf '\n== %s\n' "$*"
}

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

step "1. Images: handwritten digits, 32x32 PNG files and two lists of them"
rm -rf "$work"
mkdir "$work"
run python tools/quickstart/write_digits.py $work/images

step "2. Databases: an LMDB of PNG records for training, one for the test"
for part in train test; do
    run caffecompat convert-imageset --gray --encoded $work/images/ $work/images/$part.txt \
        $work/${part}_lmdb
done
run caffecompat compute-image-mean $work/train_lmdb # the net's mean_value comes from here

step "3. Training: a VGG-style net of six 3x3 convolutions"
run caffecompat summary prototxt/quickstart_deploy.prototxt
run caffecompat train --solver prototxt/solver_quickstart.prototxt

step "4. Test: the share of the 360 held-out digits that are recognised"
run caffecompat test --model prototxt/quickstart_train_val.prototxt \
    --weights $work/digits_iter_500.caffemodel --iterations 9 2>&1 | tee $work/test.log
awk '/accuracy = / { value = $NF }
    END { if (value < 0.97) { print "accuracy " value ", expected at least 0.97"; exit 1 } }' \
    $work/test.log

step "5. Resume: the snapshot of iteration 250 trains on and ends with the same weights"
mv $work/digits_iter_500.caffemodel $work/uninterrupted.caffemodel
run caffecompat train --solver prototxt/solver_quickstart.prototxt \
    --snapshot $work/digits_iter_250.solverstate
run cmp $work/digits_iter_500.caffemodel $work/uninterrupted.caffemodel
echo "The two files are equal, byte for byte."

step "6. Conversion: to a PyTorch state dict and back"
run caffecompat convert $work/digits_iter_500.caffemodel $work/digits.pt
run caffecompat convert $work/digits.pt $work/back.caffemodel \
    --model prototxt/quickstart_deploy.prototxt
run python tools/quickstart/compare_models.py $work/digits_iter_500.caffemodel $work/digits.pt \
    $work/back.caffemodel

step "7. Evaluation: whole images, by the fully convolutional net; the classes of one image"
digits=(--model prototxt/quickstart_deploy.prototxt --weights $work/digits_iter_500.caffemodel
    --preprocessing none --mean 80 --input-scale 0.0078125 --scales 32 --no-flip)
run caffecompat evaluate "${digits[@]}" --data $work/images/test.txt --protocol dense \
    --report $work/report
run caffecompat classify $work/images/0005.png "${digits[@]}" --picture $work/classes.png

cat <<TEXT

Done. What to try next, with $(dirname "$(command -v caffecompat)") in your PATH:

  caffecompat --help                                            all verbs
  caffecompat time --model prototxt/quickstart_train_val.prototxt --iterations 10
  caffecompat graph prototxt/D_deploy.prototxt                  how VGG-16 is wired
  caffecompat summary prototxt/E_deploy.prototxt                VGG-19: shapes, parameters
  caffecompat train --solver prototxt/solver_quickstart.prototxt --weights $work/back.caffemodel

README.md has the Python side; docs/paper-nets.md trains the nets of the VGG paper.
TEXT
