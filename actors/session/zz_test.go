package session_test
import ("testing";"math/rand/v2")
func TestZZ(t *testing.T){
 for part:=range 2 { t.Run("", func(t *testing.T){ t.Parallel()
 for seed:=uint64(20000+part);seed<24000;seed+=2{
  rng:=rand.New(rand.NewPCG(seed,7)); ps:=walkPolicies()
  if err:=wander(ps[rng.IntN(len(ps))], rng.IntN, 500); err!=nil { t.Errorf("seed %d %v",seed,err) }
 }})}
}
