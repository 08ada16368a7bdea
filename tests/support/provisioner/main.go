// Command provisioner makes volumes for the test cluster's StorageClasses: directories of this machine.
//
// All nodes are on one machine, so a directory is what a network file system is elsewhere: every node reaches
// it, and it outlives any of them. It is created when a claim is, and removed when its volume is released.
// With the StorageClass parameter medium=tmpfs it is a tmpfs of the claim's size, so that it can be full.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// Name of the provisioner in a StorageClass, and of the annotation that says which volumes are ours.
const name = "rowlock.dev/directory"

type directories struct{ root string }

// Provision makes the directory of one claim and returns the volume that names it.
func (d directories) Provision(
	_ context.Context, options controller.ProvisionOptions,
) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	claim := options.PVC
	path := filepath.Join(d.root, claim.Namespace+"_"+claim.Name+"_"+options.PVName)
	if err := d.make(path, options); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	kind := v1.HostPathDirectory
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: options.PVName, Annotations: map[string]string{name + "-path": path}},
		Spec: v1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			AccessModes:                   claim.Spec.AccessModes,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: claim.Spec.Resources.Requests[v1.ResourceStorage]},
			PersistentVolumeSource: v1.PersistentVolumeSource{
				HostPath: &v1.HostPathVolumeSource{Path: path, Type: &kind},
			},
		},
	}, controller.ProvisioningFinished, nil
}

func (d directories) make(path string, options controller.ProvisionOptions) error {
	if err := os.MkdirAll(path, 0o777); err != nil {
		return err
	}
	if options.StorageClass.Parameters["medium"] == "tmpfs" {
		size := options.PVC.Spec.Resources.Requests[v1.ResourceStorage]
		if err := syscall.Mount("tmpfs", path, "tmpfs", 0, fmt.Sprintf("size=%d", size.Value())); err != nil {
			return fmt.Errorf("mount a tmpfs of %s at %s: %w", size.String(), path, err)
		}
	}
	// A pod's fsGroup is not applied to host paths, so every user may write, past any umask.
	return os.Chmod(path, 0o777)
}

// Delete removes what Provision made.
func (d directories) Delete(_ context.Context, volume *v1.PersistentVolume) error {
	path := volume.Annotations[name+"-path"]
	if filepath.Dir(path) != d.root {
		return fmt.Errorf("volume %s names %q, which is not in %s: it is left as it is", volume.Name, path, d.root)
	}
	// EINVAL: not a mount point, as most are not. ENOENT: removed by an earlier try.
	if err := syscall.Unmount(path, 0); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	return os.RemoveAll(path)
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "how to reach the API server")
	root := flag.String("root", "", "directory that holds the volumes")
	flag.Parse()
	ctx := klog.NewContext(context.Background(), klog.Background())
	if err := run(ctx, *kubeconfig, *root); err != nil {
		fmt.Fprintln(os.Stderr, "provisioner:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, kubeconfig, root string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if root, err = filepath.Abs(root); err != nil {
		return err
	}
	controller.NewProvisionController(ctx, client, name, directories{root}, controller.LeaderElection(false)).Run(ctx)
	return nil
}
