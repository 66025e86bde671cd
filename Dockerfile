# The suite in a container, with the versions of constraints.txt. The README's section "In a container" has the commands:
#   docker build -t hycon-bench .
#   docker build -t hycon-bench:cu128 --build-arg VARIANT=cu128 .
#   docker run --rm -v "$PWD:/bench" --user "$(id -u):$(id -g)" hycon-bench run table1 --profile demo
#   docker run --rm --gpus all -v "$PWD:/bench" --user "$(id -u):$(id -g)" hycon-bench:cu128 run table1 --devices cuda:0
# podman and buildah read the same file. The CUDA libraries come with PyTorch; the host needs NVIDIA's driver and its
# container toolkit. No data, weights or results are in the image: they lie in the folder that is mounted at /bench.
FROM python:3.11.9-slim-bookworm

# Which build of PyTorch: cpu, or CUDA's version as PyTorch names it (cu126, cu128)
ARG VARIANT=cpu

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1

WORKDIR /suite
COPY constraints.txt ./

# The large part first: it stays in the builder's cache while the suite changes
RUN pip install -c constraints.txt --extra-index-url "https://download.pytorch.org/whl/${VARIANT}" torch

COPY pyproject.toml README.md LICENSE ./
COPY hycon hycon
COPY baselines baselines
COPY studies studies
COPY results/paper results/paper
COPY results/literature results/literature
COPY results/claims_beyond.toml results/claims_beyond.toml
RUN pip install -c constraints.txt ".[plots,gpu]"

RUN useradd --create-home --uid 1000 bench && mkdir /bench && chown bench:bench /bench
USER bench
WORKDIR /bench

# Under /bench, so that they outlive the container; HOME may not be writable for another --user
ENV BENCH_DATA=/bench/data \
    BENCH_RESULTS=/bench/results \
    HF_HOME=/bench/.cache/huggingface \
    MPLCONFIGDIR=/tmp/matplotlib

ENTRYPOINT ["bench"]
CMD ["--help"]
