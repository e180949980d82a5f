"""What a type of file system, as mountinfo names it, says of where the bytes lie. What is not listed is unknown."""

from enum import Enum


class Kind(Enum):
    """What a mount's type tells."""

    LOCAL = "on a block device"  # which one is another question
    MEMORY = "in memory"
    NETWORK = "a network file system"
    OBJECT_STORE = "an object store mount"
    STACKED = "made of other directories"  # as good as its worst layer
    SHARED = "somebody else's directory"  # a host's, or a program's: it may lead anywhere
    NO_DATA = "no place for data"
    UNKNOWN = "unknown"


_TYPES = {
    Kind.LOCAL: """
        ext2 ext3 ext4 xfs btrfs f2fs bcachefs zfs jfs nilfs2 reiserfs ntfs ntfs3 exfat vfat msdos udf iso9660
        squashfs erofs ubifs apfs hfs fuseblk""",
    Kind.MEMORY: "tmpfs ramfs hugetlbfs devtmpfs rootfs",
    Kind.NETWORK: """
        nfs nfs3 nfs4 cifs smb smb2 smb3 smbfs afpfs webdav davfs davfs2 ncp ncpfs afs auristorfs coda ceph glusterfs
        lustre gpfs beegfs fhgfs panfs wekafs orangefs pvfs2 gfs gfs2 ocfs2 acfs ibrix snfs stnfs cachefs cvmfs2
        fuse.sshfs fuse.curlftpfs fuse.davfs2 fuse.glusterfs fuse.ceph fuse.ceph-fuse fuse.smbnetfs fuse.gvfsd-fuse
        fuse.mfs fuse.cubefs fuse.hf3fs fuse.quobyte fuse.daos fuse.cvmfs2""",
    Kind.OBJECT_STORE: """
        fuse.mountpoint-s3 fuse.goofys fuse.geesefs fuse.s3fs fuse.rclone fuse.gcsfuse fuse.juicefs fuse.blobfuse
        fuse.blobfuse2 fuse.ossfs fuse.cosfs fuse.obsfs fuse.s3ql fuse.s3backer fuse.objectivefs fuse.alluxio-fuse
        fuse.seaweedfs fuse.riofs fuse.yas3fs fuse.google-drive-ocamlfuse fuse.drive fuse.drivefs fuse.hf-mount""",
    Kind.STACKED: """
        overlay aufs unionfs ecryptfs shiftfs fuse.fuse-overlayfs fuse.mergerfs fuse.unionfs fuse.bindfs fuse.encfs
        fuse.gocryptfs fuse.squashfuse fuse.ratarmount fuse.archivemount""",
    Kind.SHARED: """
        9p v9fs virtiofs vboxsf prl_fs vmhgfs fuse.vmhgfs-fuse drvfs fakeowner fuse.grpcfuse osxfs hostfs promise""",
    Kind.NO_DATA: """
        autofs proc sysfs cgroup cgroup2 devpts mqueue securityfs debugfs tracefs configfs pstore bpf binfmt_misc
        efivarfs selinuxfs fusectl nsfs rpc_pipefs nfsd""",
}
_KIND = {fstype: kind for kind, names in _TYPES.items() for fstype in names.split()}


def kind_of(fstype: str, source: str) -> Kind:
    """Return what a mount of type `fstype` from `source` is.

    A source is free text, so it speaks only against a mount: `fuse` from `mountpoint-s3` is an object store, `fuse`
    from `/dev/sda1` is a program like any other.
    """
    if fstype == "fuse":
        return _KIND.get(f"fuse.{source}", Kind.SHARED)
    return _KIND.get(fstype, Kind.SHARED if fstype.startswith("fuse.") else Kind.UNKNOWN)
