import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    alias(libs.plugins.kotlin.jvm)
}

kotlin {
    compilerOptions {
        jvmTarget = JvmTarget.JVM_1_8
        // Nothing that Java 8 has not: older phones lack it.
        freeCompilerArgs.add("-Xjdk-release=8")
    }
}

java {
    sourceCompatibility = JavaVersion.VERSION_1_8
    targetCompatibility = JavaVersion.VERSION_1_8
}

dependencies {
    // Android has org.json itself, and the app brings ONNX Runtime for Android.
    compileOnly(libs.json)
    compileOnly(libs.onnxruntime.jvm)
    testImplementation(libs.json)
    testImplementation(libs.onnxruntime.jvm)
    testImplementation(libs.junit)
}
