# The operator's image. The final stage has no shell and nothing that could be run instead of our binaries.
FROM --platform=$BUILDPLATFORM golang:1.26.11-bookworm AS build
WORKDIR /src
# Modules first: they change less often than the code and are then a layer of their own.
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY api ./api
COPY cmd ./cmd
COPY internal ./internal
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=unknown
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false \
    -ldflags "-s -w -X main.version=$VERSION" -o /out/ ./cmd/manager ./cmd/raytls

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/manager /out/raytls /
# By number, so that a kubelet can see that runAsNonRoot holds.
USER 65532:65532
ENTRYPOINT ["/manager"]
