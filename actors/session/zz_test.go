package session_test
import ("testing";"math/rand/v2";"regexp";"strings";"sort";"fmt")
func TestZZ(t *testing.T){
 count:=map[string]int{}; ex:=map[string]string{}
 num:=regexp.MustCompile(`[0-9]+|"[^"]*"|\{[^}]*\}|<[^>]*>`)
 for seed:=uint64(0);seed<1500;seed++{
  rng:=rand.New(rand.NewPCG(seed,1)); ps:=walkPolicies(); p:=ps[rng.IntN(len(ps))]
  func(){ defer func(){ if r:=recover();r!=nil{k:=fmt.Sprint("PANIC ",r);count[k]++;ex[k]=fmt.Sprint("seed ",seed)} }()
  m:=newMachine(p); over:=0
  for i:=0;i<500;i++{
   pre:=summary(m.state,m.now)
   err:=m.walk(rng.IntN)
   if err==nil && i%8==0 { err=m.checkSilence(); if err==nil {err=m.checkCrash()} }
   if m.state.Ended { if over++;over>5{ if err==nil{err=m.checkReplay()}; m=newMachine(p);over=0}}
   if err!=nil{
    for _,l:=range strings.Split(err.Error(),"\n"){
     l2:=l
     if strings.HasPrefix(l,"session."){ if j:=strings.Index(l,"}: ");j>0{l2=l[j+3:]} else if j:=strings.Index(l,"]: ");j>0 {l2=l[j+3:]} }
     k:=num.ReplaceAllString(l2,"#"); if len(k)>110{k=k[:110]}
     count[k]++; if ex[k]==""{ if len(l)>500{l=l[:500]}; ex[k]=fmt.Sprintf("seed %d step %d: %s\n     before %s\n     after %s",seed,i,l,pre,summary(m.state,m.now))}
    }
    m=newMachine(p); over=0
   }
  }
  }()
 }
 var ks []string; for k:=range count{ks=append(ks,k)}; sort.Slice(ks,func(i,j int)bool{return count[ks[i]]>count[ks[j]]})
 for _,k:=range ks{ fmt.Printf("%5d %s\n   e.g. %s\n",count[k],k,ex[k])}
}
