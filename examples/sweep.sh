#!/bin/sh
# A shell loop over recipes of views: pre-train with each recipe, then compare the features in one table.
set -eu

foveal prepare phantom:80 --out runs/sweep_sh/set --size 32
for views in fundus mild; do
    foveal pretrain runs/sweep_sh/set --out "runs/sweep_sh/$views" --encoder small_conv \
        --epochs 1 --batch-size 16 --views "$views"
done
foveal probe runs/sweep_sh/set --init runs/sweep_sh/fundus runs/sweep_sh/mild --out runs/sweep_sh/probe.csv
