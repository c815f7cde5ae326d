# shellcheck shell=bash disable=SC2016,SC2088  # inner shells expand what they are given
# install.sh by the ordinary user, offline, with the distribution's oldest supported Python and its compiler.
# needed

test_the_readme_command() {
    as_user cp -R "$LANE/checkout" "$CHECKOUT"
    as_user sh -c "cd checkout && ./install.sh && ~/.local/bin/rootless run --rm hello"
}

test_the_interpreter_is_3_9() {
    local version
    version=$(as_user .local/lib/rootless/current/env/bin/python -c 'import sys; print(sys.version_info[:2])')
    equal "(3, 9)" "$version"
}

test_the_accelerators_are_there() {
    as_user .local/lib/rootless/current/env/bin/python -c 'import isal.igzip, zstandard'
}

test_a_registry_serves_debian_and_it_is_pulled() {
    mkdir -p /srv/registry
    printf 'version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: /srv/registry}}\nhttp: {addr: "127.0.0.1:5000"}\n' \
        >/srv/registry.yml
    systemd-run --unit=lane-registry docker-registry serve /srv/registry.yml
    local try
    for try in $(seq 50); do
        if skopeo copy --quiet --insecure-policy --dest-tls-verify=false "oci:$LANE/images/debian:debian:11" \
            docker://127.0.0.1:5000/debian:11; then
            break
        fi
        [ "$try" -lt 50 ] || fail "the registry does not start"
        sleep 0.5
    done
    rootless pull 127.0.0.1:5000/debian:11
    rootless tag 127.0.0.1:5000/debian:11 debian:11
    contains "$(rootless images)" "127.0.0.1:5000/debian" debian
    systemctl stop lane-registry
}

test_busybox_is_loaded() {
    as_user cp -R "$LANE/images/busybox" busybox-layout
    rootless load -i busybox-layout
    rootless images
}
