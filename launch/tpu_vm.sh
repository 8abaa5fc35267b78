#!/bin/bash
# DRAW on a Cloud TPU by a queued resource: asks for it, waits, installs, trains on all its hosts.
#
#   PROJECT=my-project ZONE=us-central2-b REPOSITORY=git+https://HOST/OWNER/draw_jax launch/tpu_vm.sh --config=mnist --workdir=/mnt/shared/runs/mnist
#
# Everything after the script's name goes to `draw-jax train`. TYPE and VERSION choose the machine,
# REPOSITORY what is installed. A spot TPU that was taken away: the same command again continues,
# where the run directory is on a disk that outlives it and that all hosts share.
set -euo pipefail

: "${PROJECT:?set PROJECT to the Google Cloud project}" "${ZONE:?set ZONE, for instance us-central2-b}"
NAME=${NAME:-draw-jax}
TYPE=${TYPE:-v4-8}
VERSION=${VERSION:-tpu-ubuntu2204-base}
REPOSITORY=${REPOSITORY:?set REPOSITORY to the address of a clone of draw_jax that pip can install from}

where=(--project="$PROJECT" --zone="$ZONE")

state() { # empty where there is none
    gcloud compute tpus queued-resources describe "$NAME" "${where[@]}" \
        --format='value(state.state)' 2>/dev/null || true
}

case "$(state)" in
SUSPENDED | FAILED) # taken away, or never given: it will not come back
    gcloud compute tpus queued-resources delete "$NAME" "${where[@]}" --force --quiet
    ;;
esac
if [ -z "$(state)" ]; then
    gcloud compute tpus queued-resources create "$NAME" "${where[@]}" --node-id="$NAME" \
        --accelerator-type="$TYPE" --runtime-version="$VERSION" --spot
fi
until [ "$(state)" = ACTIVE ]; do
    case "$(state)" in
    SUSPENDED | FAILED)
        echo "$NAME was not given, or taken away: the same command asks for it again" >&2
        exit 1
        ;;
    esac
    echo "waiting for $NAME"
    sleep "${POLL_SECONDS:-30}"
done

on_all() {
    gcloud compute tpus tpu-vm ssh "$NAME" "${where[@]}" --worker=all --command="$1"
}

# The machine's own Python may be older than draw_jax needs.
on_all "python3 -m pip install --quiet --user uv && python3 -m uv venv --quiet --allow-existing --python 3.12 .draw"
on_all "python3 -m uv pip install --quiet --python .draw/bin/python 'draw-jax[tpu] @ $REPOSITORY'"
# JAX finds the hosts of a TPU by itself. %q: the remote shell takes each word as it stands here.
on_all "$(printf '%q ' .draw/bin/draw-jax train --distributed "$@")"
