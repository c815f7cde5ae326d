"""Where a storage driver's tree is known to differ from a plain directory, and why.

Checked strictly: a case listed here has to fail with exactly these origins of its objects, no more and no
fewer.  ``copy`` and a plain directory have no entry, and must never get one.
"""

from __future__ import annotations

from typing import NamedTuple

LAYERS = ("lower", "both")
REMADE = (*LAYERS, "remade")
PLACES = ("fresh", "lower")  # all there is for a case without objects
ALL = ("fresh", *REMADE)


class Deviation(NamedTuple):
    """A case fails for objects of these ORIGINS, for this REASON."""

    origins: tuple[str, ...]
    reason: str


def _each(reason: str, origins: tuple[str, ...], *names: str) -> dict[str, Deviation]:
    return {name: Deviation(origins, reason) for name in names}


_DIRECTORIES = (
    "rename_a_directory-dir",
    "rename_a_directory-full",
    "rename_a_directory-deep",
    "a_renamed_directory_takes_all_along",
    "rename_a_directory_over_an_empty_one-dir",
    "rename_a_directory_over_an_empty_one-full",
)
_TWINS = (
    "both_names_are_locked",
    "rename_between_names_of_one_file_is_nothing",
    "rename_keeps_the_inode-twin",
    "links_of_a_layer_are_one_file",
    "a_third_name",
    "one_name_less",
    "replacing_one_name_leaves_the_other",
)

OVERLAY = {
    **_each(
        "a directory of a layer is not renamed (EXDEV): redirect_dir is off in a user namespace",
        LAYERS,
        *_DIRECTORIES,
        "rename_keeps_the_inode_of_a_directory",
        "exchange_directories",
        "exchange_a_file_and_a_full_directory",
    ),
    **_each(
        "names of one file in a layer part at the copy-up: index=on is not to be had with userxattr",
        LAYERS,
        *_TWINS,
    ),
    **_each(
        "st_ino is the layer's for one name and that of upper for the other, again for want of an index",
        LAYERS,
        "link_shares_the_inode-file",
        "link_shares_the_inode-fifo",
        "link_shares_the_inode-dangling",
    ),
    "a_mapping_from_before_sees_later_writes": Deviation(
        LAYERS, "a mapping made before the copy-up stays one of the layer's file"
    ),
    "removed_while_open_for_reading": Deviation(
        LAYERS, "an open file of a layer keeps the link count that it has there"
    ),
    "what_happens_in_a_file_is_nothing_to_its_directory": Deviation(
        LAYERS, "a copy-up makes an entry in upper, which moves the directory's ctime"
    ),
    "directories_are_linked_by_those_in_them": Deviation(
        ("lower",), "st_nlink of a directory becomes 1 when its copy in upper merges with a layer's"
    ),
}

FUSE_OVERLAYFS = {
    **_each(
        "a directory that a layer has, or had under this name, is not renamed (EXDEV)",
        REMADE,
        *_DIRECTORIES,
    ),
    **_each(
        "a directory of a layer is not renamed (EXDEV)",
        LAYERS,
        "rename_keeps_the_inode_of_a_directory",
        "exchange_directories",
    ),
    **_each(
        "the copy-up of a FIFO makes a regular file, or fails with EIO",
        LAYERS,
        "times_are_kept_to_the_nanosecond-fifo",
        "chmod_moves_the_ctime_alone",
        "chown_sets_owners-fifo",
        "rename_to_a_new_name-fifo",
        "rename_over_a_file-fifo-other",
        "rename_over_a_file-fifo-dirlink",
        "rename_over_a_file-fifo-empty",
        "rename_over_a_file-fifo-twin",
        "rename_keeps_the_inode-fifo",
        "link_any_kind-fifo",
        "link_shares_the_inode-fifo",
    ),
    **_each(
        "names end 4 bytes before 255, so that a whiteout's prefix has room",
        PLACES,
        "longest_names-creat",
        "longest_names-mkdir",
        "longest_names-symlink",
        "longest_names-mkfifo",
    ),
    **_each(
        "names end 4 bytes before 255, and a longer one is ENOENT where it is only looked for",
        ALL,
        "statfs",
        "names_too_long_to_look_for",
        "a_file_gets_the_longest_name_and_loses_it",
    ),
    **_each(
        "a removed file that is open has a link count of 1: it is kept under another name",
        ALL,
        "removed_while_open",
        "removed_while_open_for_reading",
        "one_name_less",
    ),
    "an_open_file_survives_being_replaced": Deviation(
        LAYERS, "a replaced file that is open has a link count of 1: it is kept under another name"
    ),
    "exchange_a_file_and_a_full_directory": Deviation(
        LAYERS, "what is in a layer's directory is lost when it changes places with a file"
    ),
    "a_set_group_id_directory_gives_its_group": Deviation(
        ALL, "files are made in the work directory, whose group they get"
    ),
    "a_tree_removed_and_made_again_is_empty": Deviation(
        REMADE, "the layer's children are found by name in a directory made anew"
    ),
    "rename_ones_own_directory_over_an_empty_one": Deviation(
        ("both",), "ENOENT where the directory to be replaced holds nothing but whiteouts"
    ),
    "chown_sets_owners-link": Deviation(LAYERS, "the copy-up of a link does not keep its times"),
    "chown_leaves_them_on_directories": Deviation(
        LAYERS,
        "the copy-up of a directory makes it with its owner set last, which clears set-ID bits",
    ),
    "roots_writing_clears_them_too": Deviation(
        LAYERS, "the kernel asks for the bits to be cleared before the copy-up brings them back"
    ),
}

FUSEPY = {
    **_each(
        "a directory of a layer is not renamed (EXDEV): other drivers, diff and commit know no redirects",
        LAYERS,
        *_DIRECTORIES,
        "rename_keeps_the_inode_of_a_directory",
        "exchange_directories",
        "exchange_a_file_and_a_full_directory",
    ),
    **_each(
        "names of one file in a layer part at the copy-up, as they do in overlay",
        LAYERS,
        *_TWINS,
    ),
}

DEVIATIONS: dict[str, dict[str, Deviation]] = {
    "overlay": OVERLAY,
    "fuse-overlayfs": FUSE_OVERLAYFS,
    "fusepy": FUSEPY,
}
