# Rowlock's images. Two are released; the third is their common ground, and stands for an image of a user's own.
#   operator  the controller, without torch; carries the launcher's payload for images that know nothing of Rowlock
#   trainer   a worker
#   torch     Python, torch and what torch needs; nothing of Rowlock
#
# Layers lie in the order in which they change: base, torch (gigabytes, changes with its lock file), the other
# packages, and last Rowlock itself (a megabyte, changes with every commit). torch is installed where it stays and not
# copied from a builder, because a copy would cost its gigabytes a second time.
#
# docker (BuildKit) and podman (buildah from 1.28) build this file, so it keeps to what both do well: no `# syntax`
# line, no here-documents, nothing mounted from another stage (older buildah does not wait for it) or from the context
# (older buildah does not see that it has changed).
#
# `make image` passes two secrets when this machine has them: pip's settings, which may name a private index and its
# password, and a bundle of certificates. Neither gets into a layer or into the history.

# Any image with Python 3.11 or newer (with venv) and libstdc++: python:slim, or what `make base-image` makes.
ARG BASE_IMAGE=docker.io/library/python:3.12-slim


FROM ${BASE_IMAGE} AS base
# A virtual environment is at the same place whichever base it is, and Debian's own Python takes no packages beside it.
# A user with a name, because getpass.getuser(), which torch asks, fails without one. Set-uid programs are of no use.
RUN python3 -m venv --without-pip /opt/venv \
    && echo 'rowlock:x:65532:65532::/tmp:/usr/sbin/nologin' >> /etc/passwd \
    && echo 'rowlock:x:65532:' >> /etc/group \
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} +
# In a pod the root file system is read-only and /tmp is not. Bytecode is compiled here and never there.
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1
STOPSIGNAL SIGTERM
# `make image` adds version and revision.
LABEL org.opencontainers.image.source="https://github.com/rowlock/rowlock" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY images/install.sh requirements/pip.txt /opt/rowlock/requirements/


FROM base AS torch
# An index with another build of torch, for example the one without CUDA; see images/install.sh. An address with a
# password does not belong here but into pip's settings.
ARG TORCH_INDEX_URL=""
COPY requirements/torch.txt /opt/rowlock/requirements/
RUN --mount=type=secret,id=pip --mount=type=secret,id=ca --mount=type=cache,target=/var/cache/pip \
    sh /opt/rowlock/requirements/install.sh torch.txt
# Without it, older NVIDIA container runtimes mount their tools but not CUDA's driver library. Which devices a
# container sees is for the device plugin to say.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 65532:65532


# What the payload needs beside Rowlock, as pure Python for any version and machine: --platform any finds nothing else.
FROM base AS payload
COPY requirements/launcher.txt /opt/rowlock/requirements/
RUN --mount=type=secret,id=pip --mount=type=secret,id=ca --mount=type=cache,target=/var/cache/pip \
    sh /opt/rowlock/requirements/install.sh launcher.txt \
       --target /opt/rowlock/launcher --only-binary :all: --platform any --implementation py --abi none \
    && rm -rf /opt/rowlock/launcher/bin


# Rowlock itself: as an installed package for both images, and as the part of the payload for the operator's.
FROM base AS rowlock
COPY requirements/build.txt /opt/rowlock/requirements/
RUN --mount=type=secret,id=pip --mount=type=secret,id=ca --mount=type=cache,target=/var/cache/pip \
    python3 -m venv /opt/build \
    && PIP_CONFIG_FILE=/run/secrets/pip PIP_CACHE_DIR=/var/cache/pip /opt/build/bin/pip install --quiet \
       --require-hashes -r /opt/rowlock/requirements/build.txt -r /opt/rowlock/requirements/pip.txt
# .dockerignore lets in no more than this needs.
COPY . /src
RUN cd /src \
    && /opt/build/bin/python -m hatchling build -t wheel -d /tmp/wheel \
    && /opt/build/bin/pip --python /opt/venv/bin/python3 install --quiet --disable-pip-version-check \
       --no-warn-script-location --no-index --no-deps --no-compile --root /out/trainer /tmp/wheel/*.whl \
    && cp -a /out/trainer /out/operator \
    && python3 images/payload.py /out/operator/opt/rowlock/launcher \
    && for image in trainer operator; do \
         python3 -m compileall -q --invalidation-mode unchecked-hash -s /out/$image -p / /out/$image || exit; \
       done


FROM torch AS trainer
USER 0:0
COPY requirements/trainer.txt /opt/rowlock/requirements/
RUN --mount=type=secret,id=pip --mount=type=secret,id=ca --mount=type=cache,target=/var/cache/pip \
    sh /opt/rowlock/requirements/install.sh trainer.txt --without-torch
LABEL org.opencontainers.image.title="rowlock-trainer" \
      org.opencontainers.image.description="A worker of distributed PyTorch training that does not stop when workers die"
USER 65532:65532
ENTRYPOINT ["python3", "-m", "rowlock_trainer.launcher.main"]
COPY --from=rowlock /out/trainer/ /


# No HEALTHCHECK: Kubernetes ignores it and the OCI format has none. /healthz and /readyz are for its own probes.
FROM base AS operator
COPY requirements/operator.txt /opt/rowlock/requirements/
RUN --mount=type=secret,id=pip --mount=type=secret,id=ca --mount=type=cache,target=/var/cache/pip \
    sh /opt/rowlock/requirements/install.sh operator.txt
COPY --from=payload /opt/rowlock/launcher /opt/rowlock/launcher
LABEL org.opencontainers.image.title="rowlock-operator" \
      org.opencontainers.image.description="Distributed training on Kubernetes that does not stop when workers die"
USER 65532:65532
EXPOSE 8480 8481
ENTRYPOINT ["rowlock-operator"]
COPY --from=rowlock /out/operator/ /
