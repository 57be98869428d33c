// swift-tools-version: 6.0

import PackageDescription

let package = Package(
    name: "Kdedge",
    platforms: [.iOS(.v16), .macOS(.v13)],
    products: [
        .library(name: "KdedgeCore", targets: ["KdedgeCore"]),
        .library(name: "KdedgeOnnx", targets: ["KdedgeOnnx"]),
    ],
    targets: [
        .target(name: "KdedgeCore"),
        .target(name: "KdedgeOnnx", dependencies: ["KdedgeCore", "COnnxRuntime"]),
        // ONNX Runtime's C library. On Linux that of the system; for Apple's systems see README.md.
        .systemLibrary(
            name: "COnnxRuntime",
            pkgConfig: "libonnxruntime",
            providers: [.apt(["libonnxruntime-dev"]), .brew(["onnxruntime"])]
        ),
        // What the tests verify signatures with where there is no CryptoKit.
        .systemLibrary(
            name: "COpenSSL",
            path: "Tests/COpenSSL",
            pkgConfig: "libcrypto",
            providers: [.apt(["libssl-dev"])]
        ),
        .testTarget(
            name: "KdedgeCoreTests",
            dependencies: [
                "KdedgeCore",
                "KdedgeOnnx",
                .target(name: "COpenSSL", condition: .when(platforms: [.linux])),
            ]
        ),
    ]
)
