#!/bin/sh
# Regenerates the stubs of sidecar.proto. grpcio-tools 1.75 writes code that protobuf 6.31 up to 7.x reads.
set -eu
cd "$(dirname "$0")/../.."
python3 -m grpc_tools.protoc -I . --python_out=. --pyi_out=. --grpc_python_out=. twinhull_sidecar/api/sidecar.proto
# protoc leaves out the parameters of the generic type.
sed -i 's/_Union\[\(\w*\), _Mapping\]/_Union[\1, _Mapping[str, object]]/g' twinhull_sidecar/api/sidecar_pb2.pyi
