# syntax=docker/dockerfile:1

# The program on a small Debian. It stores its data in /data, and runs as an unprivileged user.
#
#   docker build --tag tallyhook .
#   docker run --publish 127.0.0.1:8080:8080 --volume tallyhook:/data --env GITHUB_WEBHOOK_SECRET tallyhook
#
# docker-compose.yml runs it in several processes, with PostgreSQL and RabbitMQ.
#
# Images have exact versions, so that a build repeats. Raise them for the fixes of their systems.

# The manifests and build scripts alone, with empty crates. Docker compares what a stage copies from
# here by its content, so that a change of the sources leaves the next stage's first layer valid.
# Tests and benches are removed from the manifests, since their files are not here.
FROM debian:bookworm-slim AS manifests
WORKDIR /build
COPY Cargo.toml Cargo.lock build.rs ./
COPY .cargo .cargo
COPY crates crates
RUN find crates -type f ! -name Cargo.toml ! -name build.rs -delete \
    && find crates -type d -empty -delete \
    && sed --in-place '/^\[\[\(test\|bench\|example\)\]\]/,/^$/d' Cargo.toml crates/*/Cargo.toml \
    && for crate in . crates/*; do mkdir "$crate/src" && touch "$crate/src/lib.rs"; done \
    && echo 'fn main() {}' >src/main.rs

# At least `rust-version` of Cargo.toml. The image contains the C compiler that SQLite, zstd and AWS-LC need.
FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /build

# First the dependencies: this layer stays until a manifest, a build script or Cargo.lock changes.
COPY --from=manifests /build ./
RUN cargo build --locked --profile dist

# The commit that `--version` shows, since the repository itself is not here:
#   --build-arg TALLYHOOK_COMMIT="$(git log -1 --abbrev=7 --format='%h %cs')"
ARG TALLYHOOK_COMMIT=

# Cargo compares times, and these files are older than those they replace.
COPY migrations migrations
COPY fixtures fixtures
COPY deploy deploy
COPY crates crates
COPY src src
RUN touch crates/*/src/lib.rs src/lib.rs src/main.rs \
    && cargo build --locked --profile dist

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="Tallyhook" \
    org.opencontainers.image.description="Self-hosted GitHub event processor: signed webhooks in, explained cycle times out" \
    org.opencontainers.image.source="https://github.com/tallyhook/tallyhook" \
    org.opencontainers.image.licenses="Apache-2.0"

# The authorities of TLS to a remote database or broker.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /build/target/dist/tallyhook /usr/local/bin/tallyhook

# By number, so that Kubernetes can verify that it is not root.
RUN install --directory --owner=10001 --group=10001 --mode=700 /data
USER 10001:10001
WORKDIR /data
VOLUME /data

# Loopback of a container cannot be reached from outside.
ENV DATABASE_URL=sqlite:///data/tallyhook.db \
    TALLYHOOK_LISTEN=0.0.0.0:8080
EXPOSE 8080
STOPSIGNAL SIGTERM

# Bash opens the connection itself, so that the image needs no HTTP client.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["bash", "-c", "\
    exec 3<>\"/dev/tcp/127.0.0.1/${TALLYHOOK_LISTEN##*:}\" \
    && printf 'GET /readyz HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 \
    && read -r _ status _ <&3 \
    && [[ $status == 200 ]]"]

ENTRYPOINT ["tallyhook"]
CMD ["serve"]
