package raycluster

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/raytls/raytls/internal/keys"
	"github.com/raytls/raytls/internal/kube"
)

// issuerName is the name of the cluster's CA Secret.
func (a *application) issuerName() string {
	return keys.IssuerSecretName(a.facts.Key, a.facts.RevokedBefore())
}

// beginsRevocation reports whether the plan puts a revocation on record. The keys wait for the next step then: a replacement that is due
// as well would take the number of the authority that is to be unrelated.
func (a *application) beginsRevocation() bool {
	return a.decision.Writes() && a.decision.Plan.RevokedBefore != a.facts.Record().RevokedBefore
}

// sameKeys keeps templates from naming a CA Secret that is not the one which was written.
func (a *application) sameKeys(context.Context) error {
	if a.decision.Edited != nil && !a.decision.Edit.Remove && a.keys.RevokedBefore != a.decision.Parameters.RevokedBefore {
		return kube.ErrStale
	}
	return nil
}

// retireSecrets deletes the CA Secrets of revoked authorities, those that a backup brought back included.
func (a *application) retireSecrets(ctx context.Context) error {
	if !a.decision.Retires {
		return nil
	}
	for i := range a.facts.Revoked {
		secret := a.facts.Revoked[i].DeepCopy()
		log.FromContext(ctx).Info("Deleting the CA Secret of a revoked authority", "secret", client.ObjectKeyFromObject(secret))
		if err := kube.Delete(ctx, a.Client, secret); err != nil {
			return err
		}
	}
	return nil
}
