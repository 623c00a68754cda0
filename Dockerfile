# One image for the operator and the sidecar.
#
#   podman build --tag twinhull .
#
# Without a container registry the two base images and the artifacts are made on the host (tests/cluster/images.py):
#   --build-arg BASE=... --build-arg BUILDER=... --build-arg ARTIFACTS=prebuilt --build-arg PACKAGES=
# and build/artifacts holds what the stage `build` would have made.
ARG BUILDER=docker.io/library/rust:1-bookworm
ARG BASE=docker.io/library/debian:bookworm-slim
ARG ARTIFACTS=build

FROM ${BUILDER} AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-dev python3-venv protobuf-compiler \
    && python3 -m venv /venv
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
COPY sidecar sidecar
COPY tests/cluster/artifacts.sh artifacts.sh
RUN sh artifacts.sh /venv/bin/python /artifacts

FROM scratch AS prebuilt
COPY build/artifacts /artifacts

FROM ${ARTIFACTS} AS artifacts
# Makes it an image of its own: podman 4.3 fails when it has to remove the same stage twice.
LABEL stage=artifacts

FROM ${BASE}
ARG PACKAGES="python3 nftables iproute2 fuse3 util-linux procps ca-certificates"
RUN if [ -n "${PACKAGES}" ]; then \
        apt-get update \
        && apt-get install -y --no-install-recommends ${PACKAGES} \
        && rm -rf /var/lib/apt/lists/*; \
    fi
# kopf asks for the name of the user that it runs as, and fails where there is none.
RUN echo 'twinhull:x:65532:65532::/nonexistent:/usr/sbin/nologin' >>/etc/passwd && echo 'twinhull:x:65532:' >>/etc/group
COPY --from=artifacts /artifacts/site /usr/lib/twinhull
COPY --from=artifacts /artifacts/bin /usr/local/bin
COPY --from=artifacts /artifacts/gate /usr/local/lib/twinhull/gate
ENV PYTHONPATH=/usr/lib/twinhull PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
LABEL org.opencontainers.image.title="twinhull" \
      org.opencontainers.image.licenses="Apache-2.0"
# The operator needs no privilege; the sidecar's pod template asks for root by itself (securityContext.runAsUser: 0).
USER 65532:65532
CMD ["twinhull-operator"]
