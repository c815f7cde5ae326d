# bash completion for rootless. Made by rootless.cli.completion from the tables of commands and options; do not edit.

__rootless_names() { rootless ps "$@" --format '{{.Names}}' 2>/dev/null; }
__rootless_images() {
    rootless images --format '{{.Repository}}:{{.Tag}}' 2>/dev/null | grep -v '<none>'
}
__rootless_networks() { rootless network ls --format '{{.Name}}' 2>/dev/null; }
__rootless_copied() {
    compgen -f -- "$1"
    compgen -W "$(__rootless_names -a | sed 's/$/:/')" -- "$1"
}

_rootless() {
    local cur prev words cword command at flags='' kind='' takes='' files='' choices=''
    if declare -F _init_completion >/dev/null; then
        _init_completion -n := || return
    else
        words=("${COMP_WORDS[@]}") cword=$COMP_CWORD
        cur=${words[cword]} prev=${words[cword-1]}
    fi
    at=1
    while [ "$at" -lt "$cword" ]; do
        case ${words[at]} in
            --root|--runtime-dir|--storage-driver|--cgroup-manager|--log-level|-l|--host|-H|--context|-c) at=$((at + 2)) ;;
            -*) at=$((at + 1)) ;;
            *) break ;;
        esac
    done
    command=
    if [ "$at" -lt "$cword" ]; then
        command=${words[at]}
        case $command in builder|buildx|container|healthcheck|image|network|system|volume|working)
            if [ "$((at + 1))" -lt "$cword" ]; then
                command="$command ${words[at+1]}"
            fi ;;
        esac
    fi
    case $command in
        '')
            flags='--root --runtime-dir --storage-driver --cgroup-manager --log-level --debug --host --context --version -l -D -H -c -v --help attach build builder buildx commit completion container cp create diff doctor events exec export healthcheck help image images import info inspect kill load logs network pause port ps pull rename restart rm rmi run start stats stop system tag top unpause unshare update version volume wait working'
            takes=' --root --runtime-dir --storage-driver --cgroup-manager --log-level -l --host -H --context -c '
            files=' --root --runtime-dir '
            case $prev in
                --storage-driver) choices='auto overlay fuse-overlayfs fusepy copy' ;;
                --cgroup-manager) choices='auto systemd cgroupfs none' ;;
                --log-level) choices='debug info warn error fatal' ;;
            esac
            ;;
        builder)
            flags='--help build du prune'
            ;;
        buildx)
            flags='--help build du prune'
            ;;
        container)
            flags='--help attach commit cp create diff exec export inspect kill list logs ls pause port prune ps remove rename restart rm run start stats stop top unpause update wait'
            ;;
        healthcheck)
            flags='--help run'
            ;;
        image)
            flags='--help build import inspect list load ls prune pull remove rm tag'
            ;;
        network)
            flags='--help connect create disconnect inspect list ls prune remove rm'
            ;;
        system)
            flags='--help df events info prune reset resume'
            ;;
        volume)
            flags='--help create export import inspect list ls prune remove rm'
            ;;
        working)
            flags='--help add commit config containers copy from ls mount ps rm run umount'
            ;;
        'container run'|run)
            flags='--add-host --annotation --attach --blkio-weight --blkio-weight-device --cap-add --cap-drop --cgroup-conf --cgroup-parent --cgroupns --cidfile --cpu-count --cpu-percent --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime --cpu-shares --cpus --cpuset-cpus --cpuset-mems --detach --detach-keys --device --device-cgroup-rule --device-read-bps --device-read-iops --device-write-bps --device-write-iops --disable-content-trust --dns --dns-option --dns-search --domainname --entrypoint --env --env-file --explain --expose --gpus --group-add --health-cmd --health-interval --health-on-failure --health-retries --health-start-interval --health-start-period --health-timeout --hostname --init --interactive --io-maxbandwidth --io-maxiops --ip --ip6 --ipc --isolation --kernel-memory --label --label-file --link --link-local-ip --log-driver --log-opt --mac-address --memory --memory-reservation --memory-swap --memory-swappiness --mount --name --network --network-alias --network-opt --no-healthcheck --oom-kill-disable --oom-score-adj --pid --pids-limit --platform --privileged --publish --publish-all --pull --quiet --read-only --restart --rm --rootfs --runtime --security-opt --shm-size --sig-proxy --stop-signal --stop-timeout --storage-opt --strict-limits --sysctl --tmpfs --tty --ulimit --use-api-socket --user --userns --uts --volume --volume-driver --volumes-from --workdir -a -c -d -e -h -i -l -m -p -P -q -t -u -v -w --help'
            takes=' --add-host --annotation --attach -a --blkio-weight --blkio-weight-device --cap-add --cap-drop --cgroup-conf --cgroup-parent --cgroupns --cidfile --cpu-count --cpu-percent --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime --cpu-shares -c --cpus --cpuset-cpus --cpuset-mems --detach-keys --device --device-cgroup-rule --device-read-bps --device-read-iops --device-write-bps --device-write-iops --dns --dns-option --dns-search --domainname --entrypoint --env -e --env-file --expose --gpus --group-add --health-cmd --health-interval --health-on-failure --health-retries --health-start-interval --health-start-period --health-timeout --hostname -h --io-maxbandwidth --io-maxiops --ip --ip6 --ipc --isolation --kernel-memory --label -l --label-file --link --link-local-ip --log-driver --log-opt --mac-address --memory -m --memory-reservation --memory-swap --memory-swappiness --mount --name --network --network-alias --network-opt --oom-score-adj --pid --pids-limit --platform --publish -p --pull --restart --rootfs --runtime --security-opt --shm-size --stop-signal --stop-timeout --storage-opt --sysctl --tmpfs --ulimit --user -u --userns --uts --volume -v --volume-driver --volumes-from --workdir -w '
            files=' --cidfile --env-file --label-file --rootfs '
            case $prev in
                --cgroupns) choices='host private' ;;
                --health-on-failure) choices='none kill restart stop' ;;
                --log-driver) choices='json-file local journald syslog none passthrough' ;;
                --network) choices='bridge host none pasta slirp4netns' ;;
                --pull) choices='always missing never' ;;
                --restart) choices='no on-failure always unless-stopped' ;;
                --uts) choices='host private' ;;
                --volume-driver) choices='local' ;;
            esac
            kind=images
            ;;
        'container exec'|exec)
            flags='--detach --detach-keys --env --env-file --interactive --privileged --tty --user --workdir -d -e -i -t -u -w --help'
            takes=' --detach-keys --env -e --env-file --user -u --workdir -w '
            files=' --env-file '
            kind=running
            ;;
        'container list'|'container ls'|'container ps'|ps)
            flags='--all --filter --format --last --latest --no-trunc --quiet --size -a -f -n -l -q -s --help'
            takes=' --filter -f --format --last -n '
            ;;
        build|'builder build'|'buildx build'|'image build')
            flags='--add-host --allow --annotation --attest --build-arg --build-context --cache-from --cache-to --cgroup-parent --call --check --cpu-period --cpu-quota --cpu-shares --cpuset-cpus --cpuset-mems --file --force-rm --iidfile --label --load --memory --memory-swap --metadata-file --network --no-cache --no-cache-filter --output --platform --progress --provenance --pull --push --quiet --rm --sbom --secret --security-opt --shm-size --squash --ssh --tag --target --ulimit -c -f -m -o -q -t --help'
            takes=' --add-host --allow --annotation --attest --build-arg --build-context --cache-from --cache-to --cgroup-parent --call --cpu-period --cpu-quota --cpu-shares -c --cpuset-cpus --cpuset-mems --file -f --iidfile --label --memory -m --memory-swap --metadata-file --network --no-cache-filter --output -o --platform --progress --provenance --sbom --secret --security-opt --shm-size --ssh --tag -t --target --ulimit '
            files=' --output -o '
            case $prev in
                --call) choices='build check outline targets' ;;
                --progress) choices='auto plain tty quiet rawjson' ;;
            esac
            ;;
        'image pull'|pull)
            flags='--all-tags --disable-content-trust --platform --quiet -a -q --help'
            takes=' --platform '
            ;;
        'image list'|'image ls'|images)
            flags='--all --digests --filter --format --no-trunc --quiet --tree -a -f -q --help'
            takes=' --filter -f --format '
            kind=images
            ;;
        doctor)
            flags='--json --help'
            ;;
        info|'system info')
            flags='--format -f --help'
            takes=' --format -f '
            ;;
        version)
            flags='--format -f --help'
            takes=' --format -f '
            ;;
        help)
            flags='--help attach build builder buildx commit completion container cp create diff doctor events exec export healthcheck help image images import info inspect kill load logs network pause port ps pull rename restart rm rmi run start stats stop system tag top unpause unshare update version volume wait working'
            ;;
        attach|'container attach')
            flags='--detach-keys --no-stdin --sig-proxy --help'
            takes=' --detach-keys '
            kind=running
            ;;
        completion)
            flags='--help bash fish zsh'
            ;;
        commit|'container commit')
            flags='--author --change --message --pause -a -c -m -p --help'
            takes=' --author -a --change -c --message -m '
            kind=all
            ;;
        'container cp'|cp)
            flags='--archive --follow-link --quiet -a -L -q --help'
            kind=copied
            ;;
        'container create'|create)
            flags='--add-host --annotation --attach --blkio-weight --blkio-weight-device --cap-add --cap-drop --cgroup-conf --cgroup-parent --cgroupns --cidfile --cpu-count --cpu-percent --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime --cpu-shares --cpus --cpuset-cpus --cpuset-mems --device --device-cgroup-rule --device-read-bps --device-read-iops --device-write-bps --device-write-iops --disable-content-trust --dns --dns-option --dns-search --domainname --entrypoint --env --env-file --expose --gpus --group-add --health-cmd --health-interval --health-on-failure --health-retries --health-start-interval --health-start-period --health-timeout --hostname --init --interactive --io-maxbandwidth --io-maxiops --ip --ip6 --ipc --isolation --kernel-memory --label --label-file --link --link-local-ip --log-driver --log-opt --mac-address --memory --memory-reservation --memory-swap --memory-swappiness --mount --name --network --network-alias --network-opt --no-healthcheck --oom-kill-disable --oom-score-adj --pid --pids-limit --platform --privileged --publish --publish-all --pull --quiet --read-only --restart --rm --rootfs --runtime --security-opt --shm-size --stop-signal --stop-timeout --storage-opt --strict-limits --sysctl --tmpfs --tty --ulimit --use-api-socket --user --userns --uts --volume --volume-driver --volumes-from --workdir -a -c -e -h -i -l -m -p -P -q -t -u -v -w --help'
            takes=' --add-host --annotation --attach -a --blkio-weight --blkio-weight-device --cap-add --cap-drop --cgroup-conf --cgroup-parent --cgroupns --cidfile --cpu-count --cpu-percent --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime --cpu-shares -c --cpus --cpuset-cpus --cpuset-mems --device --device-cgroup-rule --device-read-bps --device-read-iops --device-write-bps --device-write-iops --dns --dns-option --dns-search --domainname --entrypoint --env -e --env-file --expose --gpus --group-add --health-cmd --health-interval --health-on-failure --health-retries --health-start-interval --health-start-period --health-timeout --hostname -h --io-maxbandwidth --io-maxiops --ip --ip6 --ipc --isolation --kernel-memory --label -l --label-file --link --link-local-ip --log-driver --log-opt --mac-address --memory -m --memory-reservation --memory-swap --memory-swappiness --mount --name --network --network-alias --network-opt --oom-score-adj --pid --pids-limit --platform --publish -p --pull --restart --rootfs --runtime --security-opt --shm-size --stop-signal --stop-timeout --storage-opt --sysctl --tmpfs --ulimit --user -u --userns --uts --volume -v --volume-driver --volumes-from --workdir -w '
            files=' --cidfile --env-file --label-file --rootfs '
            case $prev in
                --cgroupns) choices='host private' ;;
                --health-on-failure) choices='none kill restart stop' ;;
                --log-driver) choices='json-file local journald syslog none passthrough' ;;
                --network) choices='bridge host none pasta slirp4netns' ;;
                --pull) choices='always missing never' ;;
                --restart) choices='no on-failure always unless-stopped' ;;
                --uts) choices='host private' ;;
                --volume-driver) choices='local' ;;
            esac
            kind=images
            ;;
        'container diff'|diff)
            flags='--help'
            kind=all
            ;;
        events|'system events')
            flags='--filter --format --since --until -f --help'
            takes=' --filter -f --format --since --until '
            ;;
        'container export'|export)
            flags='--output -o --help'
            takes=' --output -o '
            files=' --output -o '
            kind=all
            ;;
        'image import'|import)
            flags='--change --message --platform -c -m --help'
            takes=' --change -c --message -m --platform '
            kind=paths
            ;;
        inspect)
            flags='--format --size --type -f -s --help'
            takes=' --format -f --type '
            case $prev in
                --type) choices='container image network volume' ;;
            esac
            kind=both
            ;;
        'container kill'|kill)
            flags='--signal -s --help'
            takes=' --signal -s '
            kind=running
            ;;
        'image load'|load)
            flags='--input --platform --quiet -i -q --help'
            takes=' --input -i --platform '
            files=' --input -i '
            ;;
        'container logs'|logs)
            flags='--details --follow --since --tail --timestamps --until -f -n -t --help'
            takes=' --since --tail -n --until '
            kind=all
            ;;
        'container pause'|pause)
            flags='--help'
            ;;
        'container port'|port)
            flags='--help'
            kind=all
            ;;
        'container rename'|rename)
            flags='--help'
            kind=all
            ;;
        'container restart'|restart)
            flags='--signal --timeout -s -t --help'
            takes=' --signal -s --timeout -t '
            kind=running
            ;;
        'container remove'|'container rm'|rm)
            flags='--force --link --volumes -f -l -v --help'
            kind=all
            ;;
        'image remove'|'image rm'|rmi)
            flags='--force --no-prune --platform -f --help'
            takes=' --platform '
            kind=images
            ;;
        'container start'|start)
            flags='--attach --checkpoint --checkpoint-dir --detach-keys --interactive -a -i --help'
            takes=' --checkpoint --checkpoint-dir --detach-keys '
            kind=all
            ;;
        'container stats'|stats)
            flags='--all --format --no-stream --no-trunc -a --help'
            takes=' --format '
            ;;
        'container stop'|stop)
            flags='--signal --timeout -s -t --help'
            takes=' --signal -s --timeout -t '
            kind=running
            ;;
        'image tag'|tag)
            flags='--help'
            kind=images
            ;;
        'container top'|top)
            flags='--help'
            kind=running
            ;;
        'container unpause'|unpause)
            flags='--help'
            ;;
        'container update'|update)
            flags='--blkio-weight --blkio-weight-device --cgroup-conf --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime --cpu-shares --cpus --cpuset-cpus --cpuset-mems --device-read-bps --device-read-iops --device-write-bps --device-write-iops --kernel-memory --memory --memory-reservation --memory-swap --pids-limit --restart -c -m --help'
            takes=' --blkio-weight --blkio-weight-device --cgroup-conf --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime --cpu-shares -c --cpus --cpuset-cpus --cpuset-mems --device-read-bps --device-read-iops --device-write-bps --device-write-iops --kernel-memory --memory -m --memory-reservation --memory-swap --pids-limit --restart '
            case $prev in
                --restart) choices='no on-failure always unless-stopped' ;;
            esac
            kind=running
            ;;
        'container wait'|wait)
            flags='--condition --help'
            takes=' --condition '
            case $prev in
                --condition) choices='not-running next-exit removed running healthy unhealthy' ;;
            esac
            kind=all
            ;;
        unshare)
            flags='--help'
            ;;
        'builder du'|'buildx du')
            flags='--filter --format --verbose --help'
            takes=' --filter --format '
            ;;
        'builder prune'|'buildx prune')
            flags='--all --filter --force --keep-storage --reserved-space -a -f --help'
            takes=' --filter --keep-storage --reserved-space '
            ;;
        'container inspect')
            flags='--format --size -f -s --help'
            takes=' --format -f '
            kind=all
            ;;
        'container prune')
            flags='--filter --force -f --help'
            takes=' --filter '
            ;;
        'healthcheck run')
            flags='--ignore-result --help'
            kind=running
            ;;
        'image prune')
            flags='--all --filter --force -a -f --help'
            takes=' --filter '
            ;;
        'system prune')
            flags='--all --filter --force --volumes -a -f --help'
            takes=' --filter '
            ;;
        'system resume')
            flags='--install --quiet --uninstall -q --help'
            ;;
        'system reset')
            flags='--force -f --help'
            ;;
        'system df')
            flags='--format --verbose -v --help'
            takes=' --format '
            ;;
        'network connect')
            flags='--alias --driver-opt --gw-priority --ip --ip6 --link --link-local-ip --help'
            takes=' --alias --driver-opt --gw-priority --ip --ip6 --link --link-local-ip '
            kind=joined
            ;;
        'network create')
            flags='--attachable --aux-address --config-from --config-only --driver --gateway --ingress --internal --ip-range --ipam-driver --ipam-opt --ipv4 --ipv6 --label --opt --scope --subnet -d -o --help'
            takes=' --aux-address --config-from --driver -d --gateway --ip-range --ipam-driver --ipam-opt --label --opt -o --scope --subnet '
            case $prev in
                --driver) choices='bridge' ;;
            esac
            ;;
        'network disconnect')
            flags='--force -f --help'
            kind=joined
            ;;
        'network inspect')
            flags='--format --verbose -f -v --help'
            takes=' --format -f '
            kind=networks
            ;;
        'network list'|'network ls')
            flags='--filter --format --no-trunc --quiet -f -q --help'
            takes=' --filter -f --format '
            ;;
        'network prune')
            flags='--filter --force -f --help'
            takes=' --filter '
            ;;
        'network remove'|'network rm')
            flags='--force -f --help'
            kind=networks
            ;;
        'volume create')
            flags='--driver --label --name --opt -d -o --help'
            takes=' --driver -d --label --name --opt -o '
            case $prev in
                --driver) choices='local' ;;
            esac
            ;;
        'volume export')
            flags='--output -o --help'
            takes=' --output -o '
            files=' --output -o '
            ;;
        'volume import')
            flags='--help'
            ;;
        'volume inspect')
            flags='--format -f --help'
            takes=' --format -f '
            ;;
        'volume list'|'volume ls')
            flags='--filter --format --quiet -f -q --help'
            takes=' --filter -f --format '
            ;;
        'volume prune')
            flags='--all --filter --force -a -f --help'
            takes=' --filter '
            ;;
        'volume remove'|'volume rm')
            flags='--force -f --help'
            ;;
        'image inspect')
            flags='--format --platform -f --help'
            takes=' --format -f --platform '
            kind=images
            ;;
        'working add')
            flags='--chmod --chown --exclude --from --help'
            takes=' --chmod --chown --exclude --from '
            ;;
        'working commit')
            flags='--message --rm -m --help'
            takes=' --message -m '
            ;;
        'working config')
            flags='--author --change --cmd --entrypoint --env --label --port --stop-signal --user --volume --workingdir -a -c -e -l -p -u -v -w --help'
            takes=' --author -a --change -c --cmd --entrypoint --env -e --label -l --port -p --stop-signal --user -u --volume -v --workingdir -w '
            ;;
        'working copy')
            flags='--chmod --chown --exclude --from --help'
            takes=' --chmod --chown --exclude --from '
            ;;
        'working from')
            flags='--name --pull --quiet -q --help'
            takes=' --name --pull '
            case $prev in
                --pull) choices='always missing never' ;;
            esac
            ;;
        'working containers'|'working ls'|'working ps')
            flags='--no-trunc --noheading --quiet -n -q --help'
            ;;
        'working mount')
            flags='--help'
            ;;
        'working rm')
            flags='--all -a --help'
            ;;
        'working run')
            flags='--add-host --cap-add --cap-drop --env --network --user --volume --workdir -e -u -v -w --help'
            takes=' --add-host --cap-add --cap-drop --env -e --network --user -u --volume -v --workdir -w '
            ;;
        'working umount')
            flags='--all -a --help'
            ;;
    esac
    if [[ $files == *" $prev "* ]]; then
        COMPREPLY=($(compgen -f -- "$cur"))
        return
    fi
    if [[ $takes == *" $prev "* ]]; then
        COMPREPLY=($(compgen -W "$choices" -- "$cur"))
        return
    fi
    case $kind:$cur in
        paths:[!-]* | paths:) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        copied:[!-]* | copied:)
            COMPREPLY=($(__rootless_copied "$cur"))
            compopt -o nospace 2>/dev/null
            return ;;
    esac
    case $cur:$kind in
        -*) ;;
        *:all) flags=$(__rootless_names -a) ;;
        *:running) flags=$(__rootless_names) ;;
        *:images) flags=$(__rootless_images) ;;
        *:both) flags="$(__rootless_names -a) $(__rootless_images)" ;;
        *:networks) flags=$(__rootless_networks) ;;
        *:joined) flags="$(__rootless_networks) $(__rootless_names -a)" ;;
    esac
    COMPREPLY=($(compgen -W "$flags" -- "$cur"))
    if declare -F __ltrim_colon_completions >/dev/null; then
        __ltrim_colon_completions "$cur"
    fi
}
complete -F _rootless rootless
